"""The model in JAX: a scan over time in one jitted training step. See peer.py."""

import functools

import jax
import jax.numpy as jnp
import peer


def forward(weights, num_layers, unroll, x, state):
    """Return the logits of characters [time, batch], and the state after the last of them."""
    inputs, states = weights['embedding.weight'][x], []
    for layer in range(num_layers):

        def step(state, of_input, kernel=weights[f'lstm.weight_hh_l{layer}'].T):
            h, c = state
            write, forget, new, output = jnp.split(of_input + h @ kernel, 4, axis=1)
            c = jax.nn.sigmoid(forget) * c + jax.nn.sigmoid(write) * jnp.tanh(new)
            h = jax.nn.sigmoid(output) * jnp.tanh(c)
            return (h, c), h

        kernel, bias = weights[f'lstm.weight_ih_l{layer}'], weights[f'lstm.bias_ih_l{layer}']
        of_inputs = inputs @ kernel.T + bias  # for all steps at once
        last, inputs = jax.lax.scan(step, state[layer], of_inputs, unroll=unroll)
        states.append(last)
    return inputs @ weights['linear.weight'].T + weights['linear.bias'], states


def loss_of(weights, num_layers, unroll, x, y, state):
    logits, state = forward(weights, num_layers, unroll, x, state)
    of_target = jnp.take_along_axis(jax.nn.log_softmax(logits), y[..., None], axis=2)
    return -of_target.mean(), state


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=(2, 3, 4, 5))
def take_step(num_layers, unroll, weights, means, squares, state, count, x, y):
    """Take a step of Adam (Kingma and Ba, 2015), with gradients clipped to a global norm."""
    values = jax.value_and_grad(loss_of, has_aux=True)
    (loss, state), gradients = values(weights, num_layers, unroll, x, y, state)
    norm = jnp.sqrt(sum(jnp.vdot(g, g) for g in gradients.values()))
    scale = jnp.minimum(1, peer.MAX_GRADIENT_NORM / norm)
    rate = peer.LEARNING_RATE * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
    for name, g in gradients.items():
        means[name] = 0.9 * means[name] + 0.1 * scale * g
        squares[name] = 0.999 * squares[name] + 0.001 * (scale * g) ** 2
        weights[name] -= rate * means[name] / (jnp.sqrt(squares[name]) + 1e-8)
    return loss, weights, means, squares, state


def train(unroll, settings, weights, batches):
    """Yield once when ready, and then the loss of each training step."""
    weights = {name: jnp.array(value) for name, value in weights.items()}
    means, squares = ({k: jnp.zeros_like(v) for k, v in weights.items()} for _ in range(2))
    shape = settings.batch_size, settings.rnn_size
    state = [(jnp.zeros(shape), jnp.zeros(shape)) for _ in range(settings.num_layers)]
    yield
    for count, (x, y) in enumerate(batches, 1):
        loss, weights, means, squares, state = take_step(
            settings.num_layers, unroll, weights, means, squares, state, float(count), x, y
        )
        yield float(loss)


if __name__ == '__main__':
    peer.main({f'scan_{unroll}': functools.partial(train, unroll) for unroll in (1, 2, 5)})
