import pytest
import torch

from mlpop.networks.rng import generator_from_seed, lend, one_thread


def test_lend_draws_from_the_generator_and_advances_it():
    direct = generator_from_seed(4)
    expected = torch.randn(3, generator=direct), torch.randn(3, generator=direct)
    lent = generator_from_seed(4)
    with lend(lent):
        first = torch.randn(3)
    with lend(lent):
        second = torch.randn(3)
    assert torch.equal(first, expected[0])
    assert torch.equal(second, expected[1])


def test_lend_leaves_the_global_generator_alone_even_after_an_error():
    state = torch.get_rng_state()
    generator = generator_from_seed(1)
    before = generator.get_state()

    def fail():
        with lend(generator):
            torch.rand(5)
            raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        fail()
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(generator.get_state(), before)


def test_one_thread_restores_the_number():
    threads = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == threads
