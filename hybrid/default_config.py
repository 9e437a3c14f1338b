"""Every key of a config: its default, what values it may have, and what it is for.

Recipes (`configs/`) start from `get_config()` and change what they need.
`hybrid/training/config_checks.py` says what is wrong with a config. `python -m hybrid --help=KEY`
prints what stands here about a key.

To add a key, add a `Key` to the table; `hybrid/schema.py` explains its arguments. If runs that are
older than the key behaved as if it had another value than its default, name that value in
FORMER_VALUES of `hybrid/runs/workdir.py`.
"""

from ml_collections import ConfigDict

from hybrid.schema import Key, Schema

_SECTIONS = {
    'data': 'The dataset: its name, where it lives, and how its images are read.',
    'augment': 'How training images are varied at random, each example by itself. A zero switches '
    'a part off.',
    'model': 'The network: an encoder, a recurrent network over its feature map, and heads.',
    'model.encoder': 'The CNN that turns an image into a feature map.',
    'model.sequence': 'How the feature map becomes a sequence.',
    'model.recurrent': 'The RNN that reads the sequence.',
    'model.head': 'The heads, which turn features into age and gender.',
    'ensemble': 'Several models that are trained on the same batches and combined.',
    'finetune': 'Which parts of the encoder learn, and how fast.',
    'loss': 'What training minimises.',
    'optimizer': 'The optimiser and its learning rate.',
    'train': 'How long a training is, and how often it logs, validates and saves.',
    'evaluate': 'How a trained model is evaluated, and how it predicts.',
    'detect': 'How the faces in photographs are found: by --mode=predict --detect, --mode=crop, '
    'and datasets with the parameter align.',
    'crop': 'How --mode=crop writes the faces that it cuts out of photographs.',
    'video': 'How much of a video --mode=predict --detect reads.',
}

_NORMALIZATIONS = ('hybrid.data.augment:NORMALIZATIONS',)

# A table: each key with its default and limits, then what it is for.
# fmt: off
_KEYS = (
    Key('seed', 0, at_least=0, at_most=2**32 - 1, help=
        'The initialisation, the order of the data, augmentation and dropout all follow from this '
        'number.'),
    Key('deterministic', False, help=
        'Use only deterministic kernels on GPUs, so that a continued run ends bit for bit '
        'the same there, as it always does on CPUs. This is slower; by how much has not been '
        'measured.'),
    Key('init_from', '', help=
        'The workdir of an earlier run whose parameters this run starts from: DIR for its best '
        'checkpoint, DIR@last or DIR@STEP for another one, DIR#2 for a member of an ensemble. If '
        'the run has averaged parameters, these are taken. Several workdirs, separated by '
        'commas, go to the members of an ensemble in turn.'),
    Key('init_from_parts', 'all', choices=('hybrid.weights.earlier_run:PARTS',), help=
        "Which parameters init_from gives: 'all', or only those of the 'encoder', so that the "
        'recurrent network and the heads start from random numbers.'),

    Key('data.dataset', 'synthetic_faces', help=
        "The name of the dataset, with its variant after a slash: 'utkface', "
        "'utkface/coral_21_60', 'synthetic_faces', 'imdb_wiki', 'imdb_wiki/wiki', or faces of "
        "your own under a name that you choose, 'face_csv/NAME'. To train on several together, "
        'separate them by commas.'),
    Key('data.data_dir', '', help=
        "The folder of prepared datasets; '' is the default of TensorFlow Datasets, "
        '~/tensorflow_datasets.'),
    Key('data.manual_dir', '', help=
        'The folder of the files that you had to download (docs/data.md lists them). For several '
        'datasets, one folder for all, or one for each, separated by commas.'),
    Key('data.parameters', {}, help=
        'Parameters of the dataset that differ from its defaults, as a dict by name. For several '
        'datasets, one such dict for each, under its name: {"imdb_wiki/wiki": {"align": true}}.'),
    Key('data.weights', '', help=
        "The shares of several datasets in what is trained on, such as '1,1' for one half each, "
        "whatever their sizes are. '' takes shares proportional to their sizes, so that every "
        'example is seen equally often.'),
    Key('data.train_split', 'train', help='The split to train on.'),
    Key('data.validation_split', 'validation', help=
        "The split that decides which checkpoint is the best. '' is none: then the last "
        'checkpoint is evaluated, as is usual for a run of fixed length on all training data.'),
    Key('data.test_split', 'test', help=
        "The split that is evaluated once, at the end of a training; '' skips it."),
    Key('data.balance', 'none', choices=('hybrid.training.balance:BALANCES',), help=
        'How ages are weighted in the training loss by their frequencies in the training split: '
        "'none' weights all examples alike, 'inverse' by one over the frequency of their age, "
        "'lds' by one over that of the ages around it (label distribution smoothing)."),
    Key('data.balance_power', 1.0, more_than=0, at_most=1, help=
        'Weights are one over frequencies to this power: 1 makes all ages count alike; 0.5, the '
        'square root, is a compromise.'),
    Key('data.balance_width', 2.0, more_than=0, at_most=50, help=
        "The standard deviation, in years, of the Gaussian with which 'lds' smooths frequencies."),
    Key('data.resize_size', 144, at_least=1, help=
        'The side, in pixels, to which faces are resized when they are read.'),
    Key('data.image_size', 128, at_least=1, help=
        'The side, in pixels, of the crop of the resized face that the network sees; in '
        'evaluation the crop is centred.'),
    Key('data.normalization', 'imagenet', choices=_NORMALIZATIONS, help=
        "How pixels are scaled: 'unit' to 0..1, 'symmetric' to -1..1, 'standardize' to mean 0 and "
        "deviation 1 in each image, 'imagenet' by the mean and deviation of each channel over "
        'ImageNet.'),
    Key('data.num_threads', 4, at_least=1, at_most=1024, help=
        'The number of threads in each process that read and decode images.'),
    Key('data.prefetch', 2, at_least=1, at_most=1024, help=
        'How many batches are prepared ahead of the training step.'),
    Key('data.cache_bytes', 2 << 30, at_least=0, help=
        'The memory, in bytes, in which each process keeps the decoded training images, at '
        'resize_size. If the whole split does not fit, every epoch decodes the images again.'),

    Key('augment.enabled', True, help='Whether training images are varied at all.'),
    Key('augment.rotation', 15.0, at_least=0, at_most=180, help=
        'The largest angle in degrees, either way; the angle is drawn uniformly.'),
    Key('augment.scale', 0.15, at_least=0, at_most=0.9, help=
        'The zoom factor is drawn uniformly from 1 - scale to 1 + scale.'),
    Key('augment.shift', 0.04, at_least=0, at_most=1, help=
        'The largest shift along each axis, either way, as a share of image_size.'),
    Key('augment.flip', 0.5, at_least=0, at_most=1, help='The probability of a horizontal flip.'),
    Key('augment.brightness', 0.3, at_least=0, at_most=1, help=
        'The gain is drawn uniformly from 1 - brightness to 1 + brightness; the result is clipped '
        'to 0..1.'),
    Key('augment.share', 0.5, at_least=0, at_most=1, help=
        'The probability of each of the following, decided separately for each example: that it '
        'is filtered (by one of those of resample, blur, motion_blur and sharpen that are on, '
        'with equal probability), gets other colours (white_balance, contrast, saturation, hue '
        'and gamma), gets noise, goes through JPEG, and is mixed with another example (mixup, '
        'cutmix).'),
    Key('augment.resample', 0, at_least=0, at_most=4096, help=
        'The smallest side, in pixels, to which the crop is shrunk before it is magnified '
        'to image_size again. The side is drawn between this and image_size, uniformly on a '
        'logarithmic scale. 0 is off.'),
    Key('augment.blur', 0.0, at_least=0, at_most=0.5, help=
        'The largest standard deviation of a Gaussian blur, as a share of image_size.'),
    Key('augment.motion_blur', 0.0, at_least=0, at_most=1, help=
        'The longest path of a motion blur, along a row or a column, as a share of image_size.'),
    Key('augment.sharpen', 0.0, at_least=0, at_most=10, help=
        'The largest amount of an unsharp mask; the standard deviation of its blur is drawn from '
        '0.005 to 0.02 of image_size.'),
    Key('augment.white_balance', 0.0, at_least=0, at_most=4, help=
        'The factors of red and of blue are drawn independently from 1 / (1 + white_balance) to '
        '1 + white_balance, uniformly on a logarithmic scale; the luma of grey does not change.'),
    Key('augment.contrast', 0.0, at_least=0, at_most=1, help=
        'The factor of the distance from middle grey is drawn from 1 - contrast to 1 + contrast.'),
    Key('augment.saturation', 0.0, at_least=0, at_most=1, help=
        'The factor of the distance from grey of the same luma is drawn from 1 - saturation to '
        '1 + saturation.'),
    Key('augment.hue', 0.0, at_least=0, at_most=180, help=
        'The largest angle in degrees, either way, by which hues are rotated (in YIQ).'),
    Key('augment.gamma', 0.0, at_least=0, at_most=10, help=
        'The exponent of the colours is drawn from 1 / (1 + gamma) to 1 + gamma, uniformly on a '
        'logarithmic scale.'),
    Key('augment.grey', 0.0, at_least=0, at_most=1, help=
        'The probability that an example loses its colours.'),
    Key('augment.erase', 0.0, at_least=0, at_most=1, help=
        'The probability that a rectangle of an example is filled with some colour.'),
    Key('augment.erase_area', 0.2, at_least=0.02, at_most=1, help=
        'The largest area of such a rectangle, as a share of the image; the smallest is 0.02.'),
    Key('augment.noise', 0.0, at_least=0, at_most=1, help=
        'The largest standard deviation of the noise, for colours from 0 to 1.'),
    Key('augment.jpeg', 0, at_least=0, at_most=100, help=
        'The lowest JPEG quality, 1 or more; the quality is drawn from it to 100. 0 is off.'),
    Key('augment.mixup', 0.0, at_least=0, at_most=100, help=
        'Blends an example and its label with the next one in the batch. Their shares are drawn '
        'from Beta(mixup, mixup), and the example keeps the larger one.'),
    Key('augment.cutmix', 0.0, at_least=0, at_most=100, help=
        'Pastes a rectangle of the next example in the batch into an example. Its share of the '
        'area, and of the label, is drawn from Beta(cutmix, cutmix), but is at most one half. If '
        'mixup is on, too, one of the two is chosen with equal probability.'),

    Key('model.dtype', 'float32', choices=('hybrid.models.network:DTYPES',), help=
        'The type in which the network computes; parameters stay float32.'),
    Key('model.kernels', 'auto', choices=('auto', 'hybrid.ops.convolution:KERNELS'), help=
        "How convolutions are computed on CPUs. 'auto' is the fastest on this machine; "
        'docs/speed.md describes the choices.'),
    Key('model.encoder.name', 'resnet18', choices=('hybrid.models.encoders:ENCODERS',), help=
        'The architecture of the encoder.'),
    Key('model.encoder.width', 64, at_least=1, help=
        'The number of channels of the first stage.'),
    Key('model.encoder.bottleneck_stride', '3x3',
        choices=('hybrid.models.resnet:BOTTLENECK_STRIDES',), help=
        "Which convolution of a bottleneck block (resnet50, resnet101) has the stride: '3x3' "
        "(v1.5, for weights of torchvision and timm) or '1x1' (v1, for those of He et al. and "
        'Keras).'),
    Key('model.encoder.stem', 'imagenet', choices=('hybrid.models.resnet:STEMS',), help=
        "How the encoder begins: 'imagenet' is a 7x7 convolution with stride 2 and a max-pool, "
        "'medium' a 3x3 convolution with stride 2, 'small' one with stride 1."),
    Key('model.encoder.zero_init_residual', True, help=
        'Whether each residual block starts as the identity.'),
    Key('model.encoder.drop_path', 0.0, at_least=0, less_than=1, help=
        'The probability with which an example passes the last residual block by its shortcut '
        'alone in training (stochastic depth). For earlier blocks it falls linearly, to 0 for the '
        'first.'),
    Key('model.encoder.pretrained', '', help=
        'The weights that the encoder starts from: a .safetensors or .npz file, or '
        'hf://OWNER/NAME[@REVISION][/FILE] on the Hugging Face hub. A ResNet reads the tensor '
        'names of torchvision and timm, an EfficientNet-Lite those of efficientnet_lite_pytorch '
        '(tools/convert_efficientnet_lite.py), dlib_resnet the file that '
        "tools/convert_dlib_resnet.py makes. '' starts from random numbers. Several, separated by "
        'commas, go to the members of an ensemble in turn.'),
    Key('model.encoder.allow_missing', (), help=
        "Blocks that the file may lack, such as 'layer4' or 'layer4.1'; they keep their random "
        'initialisation. Give the flag once for each.'),
    Key('model.encoder.pretrained_normalization', 'imagenet', choices=_NORMALIZATIONS, help=
        'The normalisation that the weights were trained with; data.normalization must be the '
        'same.'),
    Key('model.sequence.order', 'raster', choices=('hybrid.models.sequence:ORDERS',), help=
        "The order in which the positions are read: 'raster' is row by row, 'serpentine' the "
        "same but with every second row backwards, 'column' is column by column."),
    Key('model.sequence.stages', '', help=
        'The stages of the encoder that are read, named as in finetune.freeze and separated by '
        "commas; '' is the last stage. 'layer3' has four times as many positions as layer4, "
        "which is then not part of the network. Several stages, such as 'layer3,layer4', are "
        'projected to model.recurrent.features channels, normalised, and read one after the '
        'other.'),
    Key('model.recurrent.cell', 'lstm', choices=('hybrid.models.recurrent:CELLS',), help=
        "The recurrent cell. 'none' is the CNN alone: global average pooling of each stage that "
        "is read, unless reduce is 'max' or 'attention'. 'dense' is a layer without memory, "
        'applied to each position by itself.'),
    Key('model.recurrent.features', 256, at_least=1, help=
        'The size of the hidden state, in each direction.'),
    Key('model.recurrent.bidirectional', False, help=
        'Whether the sequence is also read backwards.'),
    Key('model.recurrent.reduce', 'last', choices=('hybrid.models.recurrent:REDUCTIONS',), help=
        "How the sequence is summed up: by the 'last' state, by the 'mean' or the 'max' of the "
        "outputs, or by 'attention', a mean of the outputs weighted by a softmax of learned "
        'scores.'),
    Key('model.head.age', 'regression', choices=('hybrid.models.heads:AGE_HEADS',), help=
        "How the age is learned. 'regression' estimates one number of years, with loss.age. All "
        "others estimate a distribution over the years 0 to 100: 'dex' by the likelihood of the "
        "year, 'ldl' as a Gaussian around the label (DLDL-v2), 'mean_variance' with losses of "
        "the mean and the variance, 'coral' and 'corn' by ordinal ranks, 'laplace' as a location "
        'and a scale. docs/training.md compares them.'),
    Key('model.head.label_width', 2.0, at_least=0, at_most=50, help=
        "The standard deviation, in years, of the Gaussian around the label that 'ldl' "
        'learns. With 0 it is learned for each face, from the errors.'),
    Key('model.head.hidden', 0, at_least=0, help=
        'The number of units of a hidden layer in each head; 0 is no hidden layer.'),
    Key('model.head.dropout', 0.2, at_least=0, less_than=1, help=
        'The probability with which training drops a feature.'),
    Key('model.head.age_offset', 33.0, help=
        "About the mean age, in years. 'regression' predicts age_offset + age_scale * output, "
        "and all heads but 'dex' and 'ldl' predict ages around age_offset before they have "
        'learned anything.'),
    Key('model.head.age_scale', 20.0, more_than=0, help=
        'About the standard deviation of the ages, in years; the unit of most age losses (see '
        'age_offset).'),

    Key('ensemble.size', 1, at_least=1, at_most=1024, help=
        'The number of members with the model above. They differ in initialisation, augmentation '
        'and dropout. 1 is a single model.'),
    Key('ensemble.groups', {}, help=
        'Members with different models: a dict of NAME: {"size": MEMBERS, "model": {...}}, '
        'where "model" holds what differs from config.model, such as {"gru": {"size": 2, '
        '"model": {"recurrent": {"cell": "gru"}}}}. Members are numbered through the groups in '
        'alphabetical order; ensemble.size stays 1.'),
    Key('ensemble.at_once', 0, at_least=0, help=
        'How many members of a group are trained side by side (vmap); the others wait their '
        'turn, which takes less memory. 0 chooses what is faster: all on GPUs and TPUs, one on '
        'CPUs (in evaluation with native bfloat16 four).'),
    Key('ensemble.weights', 'uniform', choices=('hybrid.scores.combination:WEIGHTINGS',), help=
        "How members are weighted: 'uniform', or 'validation', which fits weights (none "
        'negative, sum 1) on the validation split.'),

    Key('finetune.freeze', '', help=
        'The last stage, counted from the image, that does not learn. This stage and those '
        'before it keep their parameters and their BatchNorm statistics, which they also use '
        "in training. '' freezes nothing. The stages of a ResNet are stem and layer1 to layer4, "
        'those of dlib_resnet stem and layer1 to layer5, those of an EfficientNet-Lite stem, '
        'stage1 to stage7 and head.'),
    Key('finetune.freeze_steps', 0, at_least=0, help=
        'The number of steps for which these stages stay frozen; 0 is for good.'),
    Key('finetune.encoder_rate', 1.0, more_than=0, help=
        'The learning rate of the encoder, as a multiple of optimizer.learning_rate.'),
    Key('finetune.layer_decay', 1.0, more_than=0, at_most=1, help=
        'The learning rate of each stage, as a multiple of that of the stage after it; the last '
        'stage has the learning rate of the encoder.'),
    Key('finetune.batch_norm', 'train', choices=('hybrid.training.finetuning:BATCH_NORMS',), help=
        "Whether BatchNorm uses the statistics of each batch ('train'), or its stored ones, "
        "which then do not change ('frozen')."),

    Key('loss.age', 'mse', choices=('hybrid.models.heads:AGE_LOSSES',), help=
        'The loss of the age for model.head.age=regression; the other heads have losses of their '
        'own.'),
    Key('loss.huber_delta', 1.0, at_least=1e-9, help=
        "Where 'huber' goes from squared to absolute errors, in units of model.head.age_scale."),
    Key('loss.expectation_weight', 1.0, at_least=0, help=
        'For model.head.age=ldl: the weight of the absolute error of the mean, in years, which '
        'is added to the divergence from the Gaussian.'),
    Key('loss.mean_weight', 0.2, at_least=0, help=
        'For model.head.age=mean_variance: the weight of half the squared error of the mean, in '
        'years squared.'),
    Key('loss.variance_weight', 0.05, at_least=0, help=
        'For model.head.age=mean_variance: the weight of the variance, in years squared.'),
    Key('loss.age_weight', 2.0, at_least=0, help=
        'The weight of the age loss in the sum.'),
    Key('loss.gender_weight', 1.0, at_least=0, help=
        'The weight of the gender loss in the sum.'),
    Key('loss.label_smoothing', 0.0, at_least=0, at_most=1, help=
        'The share of the probability that gender labels divide equally between both genders.'),
    Key('loss.forget_rate', 0.0, at_least=0, less_than=1, help=
        'The share of the losses of a batch, the largest ones for each head, from which nothing '
        'is learned, because large losses are often due to wrong labels. The number is rounded '
        'down to a whole one.'),
    Key('loss.forget_steps', 0, at_least=0, help=
        'The number of steps in which forget_rate, which must not be 0 then, rises from 0 to its '
        'value: at first, losses are large where faces are difficult.'),

    Key('optimizer.name', 'adamw', choices=('adamw', 'sgd'), help=
        'The optimiser; sgd has Nesterov momentum.'),
    Key('optimizer.learning_rate', 1e-3, at_least=0, help='The learning rate at its peak.'),
    Key('optimizer.schedule', 'cosine', choices=('cosine', 'constant', 'one_cycle'), help=
        "The learning rate after the warm-up: 'cosine' falls to zero, 'constant' "
        "stays. 'one_cycle' falls like 'cosine', and its warm-up follows a cosine, too."),
    Key('optimizer.warmup', 0.1, at_least=0, less_than=1, help=
        "The share of the steps in which the learning rate rises to its peak, from almost zero or, "
        "with 'one_cycle', from 1/25 of the peak."),
    Key('optimizer.weight_decay', 0.05, at_least=0, help=
        'Decoupled weight decay of all parameters but biases and the scales of norms.'),
    Key('optimizer.momentum', 0.9, at_least=0, at_most=1, help='The momentum of sgd.'),
    Key('optimizer.gradient_clip', 1.0, at_least=0, help=
        'Gradients are scaled down to this global norm; 0 leaves them as they are.'),
    Key('optimizer.ema_decay', 0.0, at_least=0, at_most=1, help=
        'The decay of the averaged parameters that evaluation uses; 0 averages nothing.'),

    Key('train.batch_size', 64, at_least=1, help=
        'The examples in a batch, over all devices and processes together.'),
    Key('train.num_epochs', 20.0, at_least=0, at_most=1e9, help=
        'The number of times that each training image is seen.'),
    Key('train.num_steps', 0, at_least=0, at_most=2**31 - 1, help=
        'The number of steps; if it is not 0, it replaces num_epochs.'),
    Key('train.log_every_steps', 50, at_least=1, help=
        'The number of steps between lines of the log.'),
    Key('train.eval_every_steps', 0, at_least=0, help=
        'The number of steps between validations, each of which is followed by a checkpoint; '
        '0 validates after each epoch.'),
    Key('train.checkpoint_every_steps', 0, at_least=0, help=
        'The number of steps between additional checkpoints, so that less is lost if a run is '
        'killed; 0 makes none.'),

    Key('evaluate.batch_size', 128, at_least=1, help=
        'The examples in a batch, over all devices and processes together.'),
    Key('evaluate.flip_average', False, help=
        'Whether predictions are averaged over the image and its mirror image.'),
    Key('evaluate.age_estimate', 'mean', choices=('hybrid.scores.distributions:ESTIMATES',), help=
        "Which value of a distribution of ages is predicted: its 'mean', its 'median', which "
        "has the least mean absolute error if the distribution is right, or its 'mode', the "
        'likeliest year. If all members of an ensemble have distributions, it is taken of their '
        "mixture. 'regression' predicts its one number in any case."),
    Key('evaluate.scales', (), help=
        'Further views of each face that predictions are averaged over: zoomed around the middle '
        'by these factors, such as 0.9 and 1.1. Give the flag once for each.'),
    Key('evaluate.resolutions', (), help=
        'Further views of each face that predictions are averaged over: shrunk to these sides, '
        'in pixels, and magnified again, such as 64. They are combined with each of the '
        'scales. Give the flag once for each.'),

    Key('evaluate.interval_level', 0.9, at_least=0, less_than=1, help=
        'The share of true ages that the intervals from age_low to age_high contain; 0 gives no '
        'intervals. They are fitted on the validation split.'),
    Key('evaluate.interval_errors', 'auto', choices=('auto', 'absolute', 'scaled'), help=
        "How intervals are made: from 'absolute' errors in years, or from errors 'scaled' by the "
        "width of the predicted distribution, if the age head predicts one. 'auto' is 'scaled' "
        "if it does, and otherwise 'absolute'."),
    Key('evaluate.calibrate_gender', True, help=
        'Whether gender probabilities are corrected by the temperature that was fitted on the '
        'validation split; this never changes which gender is the likelier one.'),
    Key('evaluate.unsure_below', 0.5, at_least=0.5, at_most=1, help=
        "If the likelier gender has a lower probability than this, predictions say 'unsure' "
        'instead, and evaluation scores the other faces separately. With 0.5 no prediction is '
        'unsure.'),

    Key('detect.model', '~/.cache/hybrid/face_detection_yunet_2023mar.onnx', help=
        'The file of the detector YuNet, face_detection_yunet_2023mar.onnx of OpenCV Zoo.'),
    Key('detect.threshold', 0.7, more_than=0, less_than=1, help=
        'The lowest score that counts as a face.'),
    Key('detect.max_size', 1280, at_least=32, help=
        'The size at which photographs are first searched as a whole: the length of their '
        'longest side, in pixels, at most.'),
    Key('detect.min_face', 32, at_least=1, help=
        'The width in pixels of the smallest faces that matter. Large photographs, in which '
        'these would be too small for the first search, are also searched in tiles. Twice the '
        'width takes a quarter of the time; 10000 leaves the tiles out.'),
    Key('detect.turns', True, help=
        'Whether faces that are tilted, on their side or upside down are brought upright. The '
        'photograph is also searched at the turns of faces on their side or upside down, and at '
        'all turns if no face is found. Faces of which the first search was unsure are examined '
        'again, too.'),

    Key('crop.size', 224, at_least=16, at_most=2048, help=
        'The side of the faces in pixels. If it is the data.resize_size of a run, they are to '
        'the pixel what that run sees in --mode=predict --detect.'),
    Key('crop.format', 'png', choices=('png', 'jpg'), help=
        "The format of the files: 'png' is lossless; 'jpg', at quality 95, takes a third of the "
        'space.'),
    Key('video.every', 1, at_least=1, help=
        'Reads one frame out of so many; 1 reads all.'),
    Key('video.max_frames', 100_000, at_least=1, help=
        'The number of frames after which the rest of a video is left out.'),
    Key('video.max_seconds', 3600.0, more_than=0, help=
        'The time in seconds from the beginning after which the rest of a video is left out.'),
)
# fmt: on

SCHEMA = Schema(_SECTIONS, _KEYS)


def get_config() -> ConfigDict:
    """Returns the default configuration, locked: a misspelt key is an error."""
    return SCHEMA.create()
