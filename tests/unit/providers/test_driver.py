import pytest

from gateway.errors import UpstreamGarbled
from gateway.providers.driver import check_vectors


@pytest.mark.parametrize("vectors", [[[1.0]], [[0.0, -3.4e38], [1.5, 2.5]]])
def test_vectors_of_one_size_are_accepted(vectors):
    check_vectors(vectors)


@pytest.mark.parametrize("vectors", [[[]], [[1.0], [1.0, 2.0]], [[1.0, 1e300]], [[float("nan")]], [[float("-inf")]]])
def test_vectors_that_no_client_could_use_are_garbled(vectors):
    with pytest.raises(UpstreamGarbled):
        check_vectors(vectors)
