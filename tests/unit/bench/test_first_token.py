"""What the leg `first_token` expects of an assumption."""

import pytest

from tests.bench.first_token import Point, hoped

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("point", "seconds"),
    [
        (Point(), 0.0),
        (Point(create=1.0), 1.0),
        (Point(create=0.5, provision=4.0), 4.0),
        (Point(create=0.5, provision=8.0), 5.0),
        (Point(create=0.5, provision=4.0, provision_for="tools"), 0.5),
    ],
)
def test_a_prewarm_saves_what_is_waited_for_and_no_more_than_its_lead(
    point: Point, seconds: float
) -> None:
    assert hoped(point, 5.0) == seconds
