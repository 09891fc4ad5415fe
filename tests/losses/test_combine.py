import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.losses import activation, combine, cross_entropy, entropy, kl, metadata, mse


def double(x):
    return 2 * x


def product(x, y):
    return x * y


def test_each_term_gets_the_arguments_that_it_names():
    total, parts = combine(one=(1.0, double), two=(10.0, product))(x=3.0, y=5.0)
    assert parts == {"one": 6.0, "two": 15.0}
    assert total == 6.0 + 150.0


def test_parts_are_not_weighted_and_a_weight_of_zero_leaves_a_term_in_the_parts_alone():
    total, parts = combine(on=(0.5, double), off=(0.0, product))(x=3.0, y=5.0)
    assert (total, parts) == (3.0, {"on": 6.0, "off": 15.0})


def test_positional_arguments_go_to_every_term_alike():
    student, teacher = jnp.array([1.0, 2.0]), jnp.array([0.0, 4.0])
    total, parts = combine(kl=(0.25, kl), mse=(2.0, mse))(student, teacher)
    np.testing.assert_allclose(parts["mse"], 2.5)
    np.testing.assert_allclose(parts["kl"], kl(student, teacher))
    np.testing.assert_allclose(total, 0.25 * kl(student, teacher) + 5.0)
    assert combine(one=(1.0, double), two=(1.0, product))(3.0, y=5.0) == combine(
        one=(1.0, lambda x, y: 2 * x), two=(1.0, product)
    )(3.0, 5.0)


def test_a_term_of_any_keyword_gets_all_of_them():
    total, _ = combine(all=(1.0, lambda **kwargs: sum(kwargs.values())), one=(1.0, double))(x=1.0, y=5.0, z=7.0)
    assert total == 13.0 + 2.0


def test_bound_arguments_stay_bound_and_optional_ones_may_be_given_or_left_out():
    bound = combine(bound=(1.0, functools.partial(product, y=10.0)))
    assert bound(x=3.0)[0] == 30.0
    logits = jnp.array([[0.0, 1.0], [3.0, 1.0]])
    soft = combine(kl=(1.0, kl))
    np.testing.assert_allclose(
        soft(student_logits=logits, teacher_logits=-logits, temperature=5.0)[0], kl(logits, -logits, 5.0)
    )
    np.testing.assert_allclose(soft(student_logits=logits, teacher_logits=-logits)[0], kl(logits, -logits))


def test_an_argument_that_no_term_takes_is_an_error_that_names_it():
    with pytest.raises(TypeError, match="no term of one, two takes q, z"):
        combine(one=(1.0, double), two=(1.0, product))(x=1.0, y=2.0, z=3.0, q=4.0)


def test_an_argument_that_a_term_lacks_is_an_error():
    with pytest.raises(TypeError):
        combine(one=(1.0, double), two=(1.0, product))(x=1.0)


def test_no_terms_is_an_error():
    with pytest.raises(ValueError, match="at least one"):
        combine()


def test_the_generators_loss_is_the_weighted_sum_under_jit_and_grad():
    rng = np.random.default_rng(3)
    given = {
        "features": jnp.asarray(rng.normal(size=(6, 3)), jnp.float32),
        "logits": jnp.asarray(rng.normal(size=(6, 2, 4)), jnp.float32),
        "mean": jnp.zeros(3),
        "variance": jnp.ones(3),
    }
    loss = combine(metadata=(1.0, metadata), activation=(0.1, activation), entropy=(0.5, entropy))

    def direct(features):
        return (
            metadata(features, given["mean"], given["variance"])
            + 0.1 * activation(features)
            + 0.5 * entropy(given["logits"])
        )

    total, parts = jax.jit(loss)(**given)
    np.testing.assert_allclose(total, direct(given["features"]), rtol=1e-6)
    assert set(parts) == {"metadata", "activation", "entropy"}
    gradient, parts_again = jax.grad(lambda features: loss(**{**given, "features": features}), has_aux=True)(
        given["features"]
    )
    np.testing.assert_allclose(gradient, jax.grad(direct)(given["features"]), atol=1e-6)
    np.testing.assert_allclose(parts_again["entropy"], entropy(given["logits"]), rtol=1e-6)


def test_a_combination_is_itself_a_term_per_example():
    logits, labels = jnp.zeros((3, 4)), jnp.array([0, 1, -1])
    loss = combine(labels=(2.0, cross_entropy))
    np.testing.assert_allclose(jax.vmap(loss)(logits, labels)[0], 2 * np.log(4) * np.array([1, 1, 0]), rtol=1e-6)


def test_what_no_term_takes_may_be_known_too():
    total = combine(one=(1.0, double), two=(10.0, product))
    assert total.of(x=3.0, y=5.0, z=7.0) == total(x=3.0, y=5.0)
    assert total.takes("y") and not total.takes("z")
    everything = combine(all=(1.0, lambda **kwargs: sum(kwargs.values())))
    assert everything.takes("z") and everything.of(x=1.0, z=7.0)[0] == 8.0
