"""What the large matrix products are computed in; here, for whoever does without torch."""

from enum import StrEnum


class Precision(StrEnum):
    """What the large matrix products are computed in.

    `int8` quantizes weights per output channel once and activations per product as they come.
    """

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    INT8 = "int8"
