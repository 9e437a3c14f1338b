"""Every key of a config: its default, what values it may have, and what it is for.

Recipes (`configs/`) start from `get_config()` and change what they need. `check_config()` says
what is wrong with a config. `python -m hybrid --help=KEY` prints what stands here about a key.

To add a key, add a `Key` to the table; `hybrid/schema.py` explains its arguments. If runs that are
older than the key behaved as if it had another value than its default, name that value in
FORMER_VALUES of `hybrid/runs/workdir.py`.
"""

from ml_collections import ConfigDict

from hybrid.data import several
from hybrid.schema import Key, Schema

_SECTIONS = {
    'data': 'The dataset: its name, where it lives, and how its images are read.',
    'augment': 'How training images are varied. Each example gets its own draw, and a zero '
    'switches a part off.',
    'model': 'The network: an encoder, a recurrent network over its feature map, and heads.',
    'model.encoder': 'The CNN that turns an image into a feature map.',
    'model.sequence': 'How the feature map becomes a sequence.',
    'model.recurrent': 'The RNN that reads the sequence.',
    'model.head': 'What turns features into age and gender.',
    'ensemble': 'Several models that are trained side by side on the same batches, and combined.',
    'finetune': 'Which parts of the encoder learn, and how fast.',
    'loss': 'What training minimises.',
    'optimizer': 'The optimiser and its learning rate.',
    'train': 'How long a training is, and how often it logs, validates and saves.',
    'evaluate': 'How a trained model is evaluated, and predicts.',
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
        'Use only deterministic kernels on GPUs, so that a continued run ends bit for bit the same '
        'there too, as it always does on CPUs. This is slower; by how much has not been measured.'),
    Key('init_from', '', help=
        'A workdir of this program whose parameters this run starts from: DIR for its best '
        'checkpoint, DIR@last or DIR@STEP for another, DIR#2 for a member of an ensemble. Averaged '
        'parameters are taken where there are any. Several, separated by commas, go to the members '
        'of an ensemble by turns.'),
    Key('init_from_parts', 'all', choices=('hybrid.weights.earlier_run:PARTS',), help=
        "Which parameters init_from gives: 'all', or those of the 'encoder', while the recurrent "
        'network and the heads are initialised.'),

    Key('data.dataset', 'synthetic_faces', help=
        "The TFDS name, with the builder's config: 'utkface', 'utkface/coral_21_60', "
        "'synthetic_faces', 'imdb_wiki', 'imdb_wiki/wiki', or faces of your own under a name that "
        "you choose, 'face_csv/NAME'. Several, separated by commas, are trained on together."),
    Key('data.data_dir', '', help=
        "The folder of prepared datasets; '' is TFDS's own default, ~/tensorflow_datasets."),
    Key('data.manual_dir', '', help=
        "The folder of the files that you had to fetch by hand (see the dataset's README). For "
        'several datasets one folder for all, or one for each, separated by commas.'),
    Key('data.parameters', {}, help=
        'Parameters of the dataset builder that differ from its config, by their names. For '
        'several datasets a dict of those of each: {"imdb_wiki/wiki": {"align": true}}.'),
    Key('data.weights', '', help=
        "How much of what is trained on comes from each of several datasets, such as '1,1' for "
        "halves, whatever their sizes are. '' weights them by their sizes, so that every example "
        'is seen equally often.'),
    Key('data.train_split', 'train', help='The split to train on.'),
    Key('data.validation_split', 'validation', help=
        "The split that decides which checkpoint is the best. '' is none: the last checkpoint is "
        'evaluated, as in a run of fixed length on all training data.'),
    Key('data.test_split', 'test', help=
        "The split that is evaluated once, at the end of a training; '' skips it."),
    Key('data.balance', 'none', choices=('hybrid.training.balance:BALANCES',), help=
        'How ages are weighted in the loss of training, by their frequencies in the training '
        "split: 'none' counts all examples alike, 'inverse' each by one over the frequency of its "
        "age, 'lds' by one over that of the ages about it (label distribution smoothing)."),
    Key('data.balance_power', 1.0, more_than=0, at_most=1, help=
        'Weights are one over frequencies to this power: 1 makes all ages count alike, 0.5, the '
        'square root, goes half the way.'),
    Key('data.balance_width', 2.0, more_than=0, at_most=50, help=
        "The standard deviation, in years, of the Gaussian over which 'lds' takes frequencies."),
    Key('data.resize_size', 144, at_least=1, help=
        'Faces are resized to this side, in pixels, when they are read.'),
    Key('data.image_size', 128, at_least=1, help=
        'The network sees a crop with this side, in pixels, out of the resized face; in evaluation '
        'the crop is centred.'),
    Key('data.normalization', 'imagenet', choices=_NORMALIZATIONS, help=
        "How pixels are scaled: 'unit' to 0..1, 'symmetric' to -1..1, 'standardize' to mean 0 and "
        "deviation 1 in each image, 'imagenet' by the mean and deviation of each channel over "
        'ImageNet.'),
    Key('data.num_threads', 4, at_least=1, at_most=1024, help=
        'The threads of each process that read and decode images.'),
    Key('data.prefetch', 2, at_least=1, at_most=1024, help=
        'How many batches are read ahead of the training step.'),
    Key('data.cache_bytes', 2 << 30, at_least=0, help=
        'The memory, in bytes, in which each process keeps the decoded training images, at '
        'resize_size, if the whole split fits; else every epoch decodes them again.'),

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
        'The probability of each of these, decided by itself for each example: that it is filtered '
        '(by one of resample, blur, motion_blur and sharpen that are on, with equal odds), gets '
        'other colours (white_balance, contrast, saturation, hue and gamma), gets noise, goes '
        'through JPEG, and is mixed with another (mixup, cutmix).'),
    Key('augment.resample', 0, at_least=0, at_most=4096, help=
        'The smallest side, in pixels, to which the crop is shrunk before it is magnified to '
        'image_size again; the side is drawn between both, uniformly on a logarithmic scale. 0 is '
        'off.'),
    Key('augment.blur', 0.0, at_least=0, at_most=0.5, help=
        'The largest standard deviation of a Gaussian blur, as a share of image_size.'),
    Key('augment.motion_blur', 0.0, at_least=0, at_most=1, help=
        'The longest path of a motion blur, along a row or a column, as a share of image_size.'),
    Key('augment.sharpen', 0.0, at_least=0, at_most=10, help=
        'The largest amount of an unsharp mask; the standard deviation of its blur is drawn from '
        '0.005 to 0.02 of image_size.'),
    Key('augment.white_balance', 0.0, at_least=0, at_most=4, help=
        'The factors of red and of blue are drawn, each by itself, from 1 / (1 + white_balance) to '
        '1 + white_balance, uniformly on a logarithmic scale; grey keeps its luma.'),
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
        'The largest such rectangle, as a share of the area; the smallest has 0.02 of it.'),
    Key('augment.noise', 0.0, at_least=0, at_most=1, help=
        'The largest standard deviation of noise, where colours go from 0 to 1.'),
    Key('augment.jpeg', 0, at_least=0, at_most=100, help=
        'The lowest quality of JPEG, from 1; the quality is drawn from it to 100. 0 is off.'),
    Key('augment.mixup', 0.0, at_least=0, at_most=100, help=
        'Mixes an example and its label with the next of the batch: their shares are drawn from '
        'Beta(mixup, mixup), and the example keeps the larger one.'),
    Key('augment.cutmix', 0.0, at_least=0, at_most=100, help=
        'Puts a rectangle of the next example of the batch into an example, with the share of the '
        'area, and of the label, drawn from Beta(cutmix, cutmix), but at most a half. If mixup is '
        'on, too, each is taken with even odds.'),

    Key('model.dtype', 'float32', choices=('hybrid.models.network:DTYPES',), help=
        'The type in which the network computes; parameters stay float32.'),
    Key('model.kernels', 'auto', choices=('auto', 'hybrid.ops.convolution:KERNELS'), help=
        "What computes convolutions on CPUs. 'auto' is the fastest on this machine; "
        'hybrid/ops/kernels.py and hybrid/ops/convolution.py describe them.'),
    Key('model.encoder.name', 'resnet18', choices=('hybrid.models.encoders:ENCODERS',), help=
        'The architecture of the encoder.'),
    Key('model.encoder.width', 64, at_least=1, help='The channels of the first stage.'),
    Key('model.encoder.bottleneck_stride', '3x3',
        choices=('hybrid.models.resnet:BOTTLENECK_STRIDES',), help=
        'Which convolution of a bottleneck block (resnet50, resnet101) has the stride: 3x3 (v1.5, '
        "for the weights of torchvision and timm) or 1x1 (v1, for those of He et al. and Keras)."),
    Key('model.encoder.stem', 'imagenet', choices=('hybrid.models.resnet:STEMS',), help=
        "How the encoder begins: 'imagenet' is a 7x7 convolution with stride 2 and a max-pool, "
        "'medium' a 3x3 convolution with stride 2, 'small' one with stride 1."),
    Key('model.encoder.zero_init_residual', True, help=
        'Whether each residual block starts as the identity.'),
    Key('model.encoder.pretrained', '', help=
        'What the encoder starts from: a .safetensors or .npz file of weights, or '
        'hf://OWNER/NAME[@REVISION][/FILE] on the Hugging Face hub. A ResNet reads the names of '
        'torchvision and timm, an EfficientNet-Lite those of efficientnet_lite_pytorch '
        "(tools/convert_efficientnet_lite.py). '' initialises it. Several, "
        'separated by commas, go to the members of an ensemble by turns.'),
    Key('model.encoder.allow_missing', (), help=
        "Blocks that the file may lack, and that then keep their initialisation, such as 'layer4' "
        "or 'layer4.1'. Give the flag once for each."),
    Key('model.encoder.pretrained_normalization', 'imagenet', choices=_NORMALIZATIONS, help=
        'The normalisation that the weights were trained with; data.normalization must be the '
        'same.'),
    Key('model.sequence.order', 'raster', choices=('hybrid.models.sequence:ORDERS',), help=
        "In which order the positions are read: 'raster' is row by row, 'serpentine' turns at the "
        "end of each row, 'column' is column by column."),
    Key('model.sequence.stages', '', help=
        "Which stages of the encoder are read: their names, as in finetune.freeze, separated by "
        "commas, such as 'layer3' (four times as many positions as after layer4, which then is not "
        "part of the network) or 'layer3,layer4', one after the other, projected to "
        "model.recurrent.features channels and normalised. '' is the last stage."),
    Key('model.recurrent.cell', 'lstm', choices=('hybrid.models.recurrent:CELLS',), help=
        "The recurrent cell. 'none' is the CNN alone, with global average pooling of each stage "
        "that is read, unless reduce is 'max' or 'attention'; 'dense' reads each position by "
        'itself, with a layer that has no memory.'),
    Key('model.recurrent.features', 256, at_least=1, help=
        'The size of the hidden state, in each direction.'),
    Key('model.recurrent.bidirectional', False, help=
        'Whether the sequence is also read backwards.'),
    Key('model.recurrent.reduce', 'last', choices=('hybrid.models.recurrent:REDUCTIONS',), help=
        "What sums the sequence up: the 'last' state; or of the outputs the 'mean', the 'max', or "
        "by 'attention' the mean weighted with a softmax of learned scores."),
    Key('model.head.age', 'regression', choices=('hybrid.models.heads:AGE_HEADS',), help=
        "What age is learned as: 'regression' is one number of years, with loss.age. All others "
        "are distributions over the years 0 to 100: 'dex' by the likelihood of the year, 'ldl' as "
        "a Gaussian about the label (DLDL-v2), 'mean_variance' with losses of the mean and the "
        "variance, 'coral' and 'corn' by ordinal ranks, 'laplace' as a location and a scale. "
        'docs/training.md compares them.'),
    Key('model.head.label_width', 2.0, at_least=0, at_most=50, help=
        "The standard deviation, in years, of the Gaussian about the label that 'ldl' learns; 0 "
        'learns it for each face, from the errors.'),
    Key('model.head.hidden', 0, at_least=0, help=
        'The units of a hidden layer in each head; 0 is no hidden layer.'),
    Key('model.head.dropout', 0.2, at_least=0, less_than=1, help=
        'The share of the features that training drops.'),
    Key('model.head.age_offset', 33.0, help=
        'Ages are predicted as age_offset + age_scale * output, in years; about the mean age. What '
        "all heads but 'dex' and 'ldl' say of a face before they have learnt anything."),
    Key('model.head.age_scale', 20.0, more_than=0, help=
        'See age_offset; about the standard deviation of ages, in years. Losses of age are '
        'measured in it.'),

    Key('ensemble.size', 1, at_least=1, at_most=1024, help=
        'How many members have the model above. They differ in initialisation, augmentation and '
        'dropout. 1 is a single model.'),
    Key('ensemble.groups', {}, help=
        'Members with different models: a dict of NAME: {"size": MEMBERS, "model": {...}}, where '
        '"model" holds what differs from config.model, such as {"gru": {"size": 2, "model": '
        '{"recurrent": {"cell": "gru"}}}}. Members are numbered through the groups in the order of '
        'their names; ensemble.size stays 1.'),
    Key('ensemble.at_once', 0, at_least=0, help=
        'How many members of a group are stepped side by side (vmap); the others wait their turn, '
        'which takes less memory. 0 takes what is faster: all on GPUs and TPUs, one on CPUs (in '
        'evaluation with native bfloat16 four).'),
    Key('ensemble.weights', 'uniform', choices=('hybrid.scores.combination:WEIGHTINGS',), help=
        "How members are weighted: 'uniform', or 'validation', which fits weights (none negative, "
        'sum 1) on the validation split.'),

    Key('finetune.freeze', '', help=
        'The last stage, counted from the image, that does not learn: its parameters and its '
        "statistics of BatchNorm, with which it then runs, stay as they are. '' freezes nothing. "
        'The stages of a ResNet are stem and layer1 to layer4, those of an EfficientNet-Lite stem, '
        'stage1 to stage7 and head.'),
    Key('finetune.freeze_steps', 0, at_least=0, help=
        'For how many steps it does not learn; 0 is for good.'),
    Key('finetune.encoder_rate', 1.0, more_than=0, help=
        'The encoder learns at optimizer.learning_rate times this.'),
    Key('finetune.layer_decay', 1.0, more_than=0, at_most=1, help=
        'Each stage learns at the rate of the one after it times this; the last stage learns at '
        'the rate of the encoder.'),
    Key('finetune.batch_norm', 'train', choices=('hybrid.training.finetuning:BATCH_NORMS',), help=
        "Whether BatchNorm follows the batches ('train'), or runs with its statistics and leaves "
        "them as they are ('frozen')."),

    Key('loss.age', 'mse', choices=('hybrid.models.heads:AGE_LOSSES',), help=
        'The loss of age by regression.'),
    Key('loss.huber_delta', 1.0, at_least=1e-9, help=
        'Where huber goes from squared to absolute errors, in units of model.head.age_scale.'),
    Key('loss.expectation_weight', 1.0, at_least=0, help=
        "For model.head.age=ldl, the weight of the absolute error of the expectation, in years, "
        'beside the divergence from the Gaussian.'),
    Key('loss.mean_weight', 0.2, at_least=0, help=
        'For model.head.age=mean_variance, the weight of half of the squared error of the mean, in '
        'years squared.'),
    Key('loss.variance_weight', 0.05, at_least=0, help=
        'For model.head.age=mean_variance, the weight of the variance, in years squared.'),
    Key('loss.age_weight', 2.0, at_least=0, help='The weight of the loss of age in the sum.'),
    Key('loss.gender_weight', 1.0, at_least=0, help='The weight of the loss of gender in the sum.'),
    Key('loss.label_smoothing', 0.0, at_least=0, at_most=1, help=
        'The share of the probability that labels of gender give to both alike.'),
    Key('loss.forget_rate', 0.0, at_least=0, less_than=1, help=
        'The share of the losses of a batch, the largest ones of each head, from which nothing is '
        'learned: some labels are wrong.'),
    Key('loss.forget_steps', 0, at_least=0, help=
        'The steps in which forget_rate rises from 0 to its value, since at first losses are large '
        'where faces are difficult.'),

    Key('optimizer.name', 'adamw', choices=('adamw', 'sgd'), help=
        'The optimiser; sgd has Nesterov momentum.'),
    Key('optimizer.learning_rate', 1e-3, at_least=0, help='The learning rate at its peak.'),
    Key('optimizer.schedule', 'cosine', choices=('cosine', 'constant', 'one_cycle'), help=
        "The learning rate after the warm-up: 'cosine' falls to zero, 'constant' stays. "
        "'one_cycle' also warms up by a cosine."),
    Key('optimizer.warmup', 0.1, at_least=0, less_than=1, help=
        'The share of the steps in which the learning rate rises from zero to its peak.'),
    Key('optimizer.weight_decay', 0.05, at_least=0, help=
        'Decoupled weight decay, of everything but biases and the scales of norms.'),
    Key('optimizer.momentum', 0.9, at_least=0, at_most=1, help='The momentum of sgd.'),
    Key('optimizer.gradient_clip', 1.0, at_least=0, help=
        'Gradients are scaled down to this global norm; 0 leaves them as they are.'),
    Key('optimizer.ema_decay', 0.0, at_least=0, at_most=1, help=
        'The decay of the averaged parameters that evaluation uses; 0 averages nothing.'),

    Key('train.batch_size', 64, at_least=1, help=
        'The examples in a batch, over all devices and processes together.'),
    Key('train.num_epochs', 20.0, at_least=0, at_most=1e9, help=
        'How often each training image is seen.'),
    Key('train.num_steps', 0, at_least=0, at_most=2**31 - 1, help=
        'The number of steps; if it is not 0, it replaces num_epochs.'),
    Key('train.log_every_steps', 50, at_least=1, help=
        'How many steps lie between lines of the log.'),
    Key('train.eval_every_steps', 0, at_least=0, help=
        'How many steps lie between validations, each with a checkpoint after it; 0 validates '
        'after each epoch.'),
    Key('train.checkpoint_every_steps', 0, at_least=0, help=
        'How many steps lie between further checkpoints, so that less is lost when a run is '
        'killed; 0 makes none.'),

    Key('evaluate.batch_size', 128, at_least=1, help=
        'The examples in a batch, over all devices and processes together.'),
    Key('evaluate.flip_average', False, help=
        'Whether predictions are averaged over the image and its mirror image.'),
    Key('evaluate.age_estimate', 'mean', choices=('hybrid.scores.distributions:ESTIMATES',), help=
        "Which number of a distribution of ages is predicted: its 'mean', its 'median', which has "
        "the least mean absolute error if the distribution is right, or its 'mode', the likeliest "
        'year. Of several members that all have distributions it is that of their mixture. '
        "'regression' has one number, which it predicts in any case."),
    Key('evaluate.scales', (), help=
        'Further views of each face that predictions are averaged over: zoomed about the middle by '
        'these factors, such as 0.9 and 1.1. Give the flag once for each.'),
    Key('evaluate.resolutions', (), help=
        'Further views of each face: shrunk to these sides, in pixels, and magnified again, such '
        'as 64. Give the flag once for each; each of the scales gets each of them.'),

    Key('evaluate.interval_level', 0.9, at_least=0, less_than=1, help=
        'The share of true ages that the interval from age_low to age_high holds; 0 gives no '
        'intervals. They are fitted on the validation split.'),
    Key('evaluate.interval_errors', 'auto', choices=('auto', 'absolute', 'scaled'), help=
        "What intervals are made of: 'absolute' errors in years, or errors 'scaled' by the width "
        "of the predicted distribution, if the age head predicts one; 'auto' takes scaled ones "
        'where it does.'),
    Key('evaluate.calibrate_gender', True, help=
        'Whether probabilities of gender are those at the temperature that was fitted on '
        'validation; it never changes which gender is the likelier one.'),
    Key('evaluate.unsure_below', 0.5, at_least=0.5, at_most=1, help=
        "If the likelier gender has a lower probability than this, predictions say 'unsure' "
        'instead, and evaluation scores the others apart. 0.5 is always sure.'),

    Key('detect.model', '~/.cache/hybrid/face_detection_yunet_2023mar.onnx', help=
        "The file of YuNet, face_detection_yunet_2023mar.onnx of OpenCV Zoo."),
    Key('detect.threshold', 0.7, more_than=0, less_than=1, help='The lowest score of a face.'),
    Key('detect.max_size', 1280, at_least=32, help=
        'Photographs are first searched whole, at this size at most, in pixels of their longest '
        'side.'),
    Key('detect.min_face', 32, at_least=1, help=
        'The width in pixels from which on faces matter. Large photographs, in which they would be '
        'too small for the first search, are also searched in tiles. Twice as wide takes a '
        'quarter of the time; 10000 leaves the tiles out.'),
    Key('detect.turns', True, help=
        'Whether faces are brought upright that are tilted or lie on their side or head, and '
        'searched for at all four turns where none is upright. What the first search was unsure '
        'of is looked at again, too.'),

    Key('crop.size', 224, at_least=16, at_most=2048, help=
        'The side of the faces in pixels. If it is the data.resize_size of a run, they are to the '
        'pixel what that run sees in --mode=predict --detect.'),
    Key('crop.format', 'png', choices=('png', 'jpg'), help=
        "The format of the files: 'png' loses nothing; 'jpg', at quality 95, takes a third of the "
        'room.'),
    Key('video.every', 1, at_least=1, help=
        'Of so many frames one is read; 1 reads all.'),
    Key('video.max_frames', 100_000, at_least=1, help=
        'After so many frames that were read, the rest of a video is left out.'),
    Key('video.max_seconds', 3600.0, more_than=0, help=
        'What comes later in a video, in seconds from its beginning, is left out.'),
)
# fmt: on

SCHEMA = Schema(_SECTIONS, _KEYS)

# Of the entries in `ensemble.groups`, besides what they change of the model.
_GROUP_SIZE = Key('size', 1, 'How many members the group has.', at_least=1, at_most=1024)


def get_config() -> ConfigDict:
    """Returns the default configuration, locked: a misspelt key is an error."""
    return SCHEMA.create()


def check_config(config: ConfigDict) -> None:
    """Checks everything in a config that needs neither devices nor files nor the built model.

    Raises:
      ValueError: naming the key, its value and what it may be.
    """
    SCHEMA.check(config)
    for name, low, high in (('scales', 0.2, 5), ('resolutions', 1, config.data.image_size)):
        for value in config.evaluate[name]:
            if not (isinstance(value, int | float) and low <= value <= high):
                raise ValueError(
                    f'config.evaluate.{name}={value!r} must be a number from {low} to {high}'
                )
    size, resized = config.data.image_size, config.data.resize_size
    if size > resized or (resized - size) % 2:
        raise ValueError(
            f'config.data.image_size={size} must be at most config.data.resize_size={resized}, out '
            'of whose middle it is cropped, and less by an even number'
        )
    if not config.data.train_split:
        raise ValueError("config.data.train_split='' must name a split")
    from hybrid.training import finetuning, groups  # They know encoders, and import JAX.

    several.check(config.data)
    _check_groups(config)
    for group in groups.all_groups(config):
        finetuning.check(group.config)


def _check_groups(config: ConfigDict) -> None:
    """Checks `config.ensemble.groups` as `check_config` does."""
    members = 0
    for name, group in config.ensemble.groups.items():
        place = f'config.ensemble.groups.{name}'
        if not isinstance(group, ConfigDict) or not set(group) <= {'size', 'model'}:
            shown = group.to_dict() if isinstance(group, ConfigDict) else group
            raise ValueError(f"{place}={shown!r} must be {{'size': members, 'model': {{...}}}}")
        count, changes = group.get('size', 1), group.get('model', {})
        if problem := _GROUP_SIZE.problem(count):
            raise ValueError(f'{place}.size={count!r} {problem}')
        SCHEMA.check_changes(changes, 'model', f'{place}.model')
        if 'kernels' in changes:
            raise ValueError(
                f'{place}.model.kernels: all groups have those of config.model.kernels'
            )
        members += count
    if members and config.ensemble.size not in (1, members):
        raise ValueError(
            f'config.ensemble.size={config.ensemble.size}, but config.ensemble.groups have '
            f'{members} members; leave the size at 1'
        )
