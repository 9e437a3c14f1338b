"""Age as probabilities of years.

DEX, "deep expectation": Rothe, Timofte and Van Gool, "Deep expectation of real and apparent age
from a single image without facial landmarks", IJCV 2018, https://doi.org/10.1007/s11263-016-0940-3.
"""

from hybrid.models.heads.distribution import YearsHead


class DexHead(YearsHead):
    """Classifies the year of age, by cross-entropy in nats, and predicts its expectation.

    Attributes:
      hidden: Size of a hidden ReLU layer; 0 for none.
    """
