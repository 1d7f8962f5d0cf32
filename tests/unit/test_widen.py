"""Which types are wider than others."""

import pytest
from pyspark.sql.types import (
    DataType,
    DateType,
    DecimalType,
    DoubleType,
    IntegerType,
    LongType,
    StringType,
    TimestampType,
)

from headwater.widen import is_wider


@pytest.mark.parametrize(
    ("old", "new", "wider"),
    [
        (IntegerType(), LongType(), True),
        (IntegerType(), DoubleType(), False),  # of which gold would take whole numbers
        (DecimalType(15, 2), DecimalType(20, 2), True),
        (DecimalType(15, 2), DecimalType(17, 4), False),  # of which gold would round two places
        (DecimalType(15, 2), DecimalType(14, 2), False),
        (DecimalType(15, 4), DecimalType(20, 2), False),
        (DecimalType(15, 2), DecimalType(15, 2), False),  # the same
        (LongType(), IntegerType(), False),
        (LongType(), DoubleType(), False),  # beyond 2^53 not each has its own
        (DoubleType(), LongType(), False),
        (IntegerType(), StringType(), False),
        (DateType(), TimestampType(), False),
    ],
)
def test_a_type_is_wider_when_it_has_each_of_the_others_values(
    old: DataType, new: DataType, wider: bool
) -> None:
    assert is_wider(new, old) is wider
