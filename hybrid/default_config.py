"""Every key there is, with its default. Recipes start from here and change what they need.

The recipes are in `configs/`; `configs/quickstart.py` is the one to begin with.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """Returns the default configuration."""
    config = ml_collections.ConfigDict()

    # Initialisation, data order, augmentation and dropout all follow from this one number.
    config.seed = 0
    # Only deterministic kernels on GPUs, so that a continued run ends bit for bit the same there
    # too, as it always does on CPUs. Slower; by how much has not been measured yet.
    config.deterministic = False
    # A workdir of this program whose parameters this run starts from: DIR, or DIR@last, DIR@STEP
    # for another checkpoint than the best, DIR#2 for a member of an ensemble. Averaged parameters
    # are taken where there are any. Several, separated by commas, are for the members, by turns.
    config.init_from = ''
    # 'all', or 'encoder': the recurrent network and the heads are initialised.
    config.init_from_parts = 'all'

    config.data = ml_collections.ConfigDict()
    # TFDS name, with the builder's config: 'utkface', 'utkface/coral_21_60', 'synthetic_faces',
    # 'imdb_wiki', 'imdb_wiki/wiki', or one's own faces under any name, 'face_csv/NAME'.
    config.data.dataset = 'synthetic_faces'
    # Where prepared datasets live; '' is TFDS's own default (~/tensorflow_datasets).
    config.data.data_dir = ''
    # Folder with the files that had to be fetched by hand (see the dataset's README).
    config.data.manual_dir = ''
    # Parameters of the builder that differ from its config's defaults, by name.
    config.data.parameters = ml_collections.ConfigDict()
    config.data.train_split = 'train'
    # Decides which checkpoint is the best one; '' for none: the last is evaluated, as in a run of
    # fixed length on all training data.
    config.data.validation_split = 'validation'
    # Read once, at the end of a training. '' skips it.
    config.data.test_split = 'test'
    # Side in pixels to which a face is resized when it is read ...
    config.data.resize_size = 144
    # ... and the side of the crop out of it that the network sees (centred in evaluation).
    config.data.image_size = 128
    # 'unit' (0..1), 'standardize' (per image: mean 0, deviation 1) or 'imagenet' (per channel).
    config.data.normalization = 'imagenet'
    # Threads that read and decode in each process.
    config.data.num_threads = 4
    # Batches read ahead of the step.
    config.data.prefetch = 2
    # Memory in bytes, of each process, in which the training images are kept once they are decoded,
    # at resize_size, if the whole split fits; else each is decoded again in every epoch.
    config.data.cache_bytes = 2 << 30

    # Augmentation of the training images, drawn per example. A zero switches that part off.
    config.augment = ml_collections.ConfigDict()
    config.augment.enabled = True
    config.augment.rotation = 15.0  # degrees, uniform in +-
    config.augment.scale = 0.15  # zoom factor uniform in 1 +-
    config.augment.shift = 0.04  # share of image_size, uniform in +-, both axes
    config.augment.flip = 0.5  # probability of a horizontal flip
    config.augment.brightness = 0.3  # gain uniform in 1 +-, clipped to 0..1

    config.model = ml_collections.ConfigDict()
    config.model.dtype = 'float32'  # of the computation, or 'bfloat16'; parameters stay float32
    # What convolutions are computed with on CPUs: 'auto' (the fastest on this machine), 'portable',
    # 'onednn' or 'xla', see hybrid/ops/kernels.py and hybrid/ops/convolution.py.
    config.model.kernels = 'auto'
    config.model.encoder = ml_collections.ConfigDict()
    config.model.encoder.name = 'resnet18'  # resnet18, resnet34, resnet50, resnet101
    config.model.encoder.width = 64  # channels of the first stage
    # Which convolution of a bottleneck (resnet50, resnet101) has the stride: '3x3' (v1.5, as
    # torchvision's and timm's weights want it) or '1x1' (v1, as He et al.'s and Keras's do).
    config.model.encoder.bottleneck_stride = '3x3'
    config.model.encoder.stem = 'imagenet'  # 7x7/2 and max-pool; 'small' and 'medium' are 3x3
    config.model.encoder.zero_init_residual = True
    # What the encoder starts from: a .safetensors or .npz file with the weights of a ResNet, named
    # as torchvision and timm do, or hf://OWNER/NAME[@REVISION][/FILE] on the Hugging Face hub; ''
    # is the initialisation. Several, separated by commas, are for the members of an ensemble, by
    # turns.
    config.model.encoder.pretrained = ''
    # Blocks that may be missing there, and keep their initialisation: ('layer4',), ('layer4.1',).
    config.model.encoder.allow_missing = ()
    # Normalisation that the weights were trained with, which data.normalization has to be.
    config.model.encoder.pretrained_normalization = 'imagenet'
    config.model.sequence = ml_collections.ConfigDict()
    config.model.sequence.order = 'raster'  # raster, serpentine, column
    config.model.recurrent = ml_collections.ConfigDict()
    config.model.recurrent.cell = 'lstm'  # lstm, gru, none (CNN alone: global average pooling)
    config.model.recurrent.features = 256
    config.model.recurrent.bidirectional = False
    config.model.recurrent.reduce = 'last'  # last state, or 'mean' of the outputs
    config.model.head = ml_collections.ConfigDict()
    # What age is learned as: 'regression', one number of years, with loss.age; or 'dex', the
    # probabilities of the years 0 to 100, whose expectation is predicted.
    config.model.head.age = 'regression'
    config.model.head.hidden = 0  # units of a hidden layer in each head, 0 for none
    config.model.head.dropout = 0.2
    # Regression predicts offset + scale * output; its loss takes errors in units of scale (years).
    config.model.head.age_offset = 33.0
    config.model.head.age_scale = 20.0

    # Several models trained side by side on the same batches and combined as one predictor.
    config.ensemble = ml_collections.ConfigDict()
    # Members with the model above, each with its own initialisation, augmentation and dropout; 1 is
    # a single model.
    config.ensemble.size = 1
    # Members with other models: name -> {'size': members, 'model': what differs from the model
    # above}, such as {'gru': {'size': 2, 'model': {'recurrent': {'cell': 'gru'}}}}. Members are
    # numbered through the groups in the order of their names; the size above stays 1.
    config.ensemble.groups = ml_collections.ConfigDict()
    # Members of a group that are stepped side by side (vmap); the others wait their turn (lax.map),
    # which takes less memory. 0 is what is faster: all on GPUs and TPUs; on CPUs one, with native
    # bfloat16 four.
    config.ensemble.at_once = 0
    # 'uniform', or 'validation': weights (none negative, sum 1) fitted on the validation split.
    config.ensemble.weights = 'uniform'

    # Fine-tuning. Stages of the encoder are stem, layer1, layer2, layer3 and layer4.
    config.finetune = ml_collections.ConfigDict()
    # The last stage, counted from the stem, that does not learn: its parameters and BatchNorm's
    # statistics, by which it then runs, stay as they are. '' is none.
    config.finetune.freeze = ''
    config.finetune.freeze_steps = 0  # for so many steps; 0 is for good
    # The encoder learns at optimizer.learning_rate times this ...
    config.finetune.encoder_rate = 1.0
    # ... times this for each stage from layer4 down.
    config.finetune.layer_decay = 1.0
    # 'train', or 'frozen': BatchNorm runs by its statistics, and leaves them as they are.
    config.finetune.batch_norm = 'train'

    config.loss = ml_collections.ConfigDict()
    config.loss.age = 'mse'  # of regression: mse, l1, huber
    config.loss.huber_delta = 1.0  # in units of age_scale
    config.loss.age_weight = 2.0
    config.loss.gender_weight = 1.0
    config.loss.label_smoothing = 0.0

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.name = 'adamw'  # adamw, sgd
    config.optimizer.learning_rate = 1e-3  # at its peak
    # After the warm-up 'cosine' to zero, or 'constant'; 'one_cycle' warms up by a cosine too.
    config.optimizer.schedule = 'cosine'
    config.optimizer.warmup = 0.1  # share of the steps, linear from zero
    config.optimizer.weight_decay = 0.05  # not on biases and norms
    config.optimizer.momentum = 0.9  # of sgd (Nesterov)
    config.optimizer.gradient_clip = 1.0  # global norm, 0 for none
    config.optimizer.ema_decay = 0.0  # of the averaged parameters used in evaluation, 0 for none

    config.train = ml_collections.ConfigDict()
    config.train.batch_size = 64  # global: over all devices and processes
    config.train.num_epochs = 20.0
    config.train.num_steps = 0  # if not 0, instead of num_epochs
    config.train.log_every_steps = 50
    # Validation, with a checkpoint after it; 0 is once an epoch.
    config.train.eval_every_steps = 0
    # Checkpoints between validations, so that less is lost when killed; 0 for none.
    config.train.checkpoint_every_steps = 0

    config.evaluate = ml_collections.ConfigDict()
    config.evaluate.batch_size = 128  # global
    config.evaluate.flip_average = False  # average over the image and its mirror image

    # Faces of photographs, --mode=predict --detect.
    config.detect = ml_collections.ConfigDict()
    # YuNet's face_detection_yunet_2023mar.onnx, from OpenCV Zoo.
    config.detect.model = '~/.cache/hybrid/face_detection_yunet_2023mar.onnx'
    config.detect.threshold = 0.7  # lowest score of a face, 0..1
    config.detect.max_size = 1280  # longest side in pixels at which a photograph is searched
    # A misspelt key in a config that starts from here is an error.
    return config.lock()
