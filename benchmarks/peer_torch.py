"""The model in PyTorch: its `nn.LSTM`, and cells unrolled for `torch.compile`. See peer.py."""

import functools

import peer
import torch
from torch import nn


class Stack(nn.Module):
    """A model from characters [time, batch] and a state to logits and the state after them."""

    def __init__(self, settings):
        super().__init__()
        self.embedding = nn.Embedding(peer.VOCAB_SIZE, settings.embedding_size)
        self.lstm = nn.LSTM(settings.embedding_size, settings.rnn_size, settings.num_layers)
        self.linear = nn.Linear(settings.rnn_size, peer.VOCAB_SIZE)

    def forward(self, x, state):
        outputs, state = self.lstm(self.embedding(x), state)
        return self.linear(outputs), state


class Unrolled(Stack):
    """The same, written step by step, so that torch.compile sees one graph."""

    def forward(self, x, state):
        hs, cs = list(state[0]), list(state[1])
        steps = self.embedding(x)
        for layer in range(self.lstm.num_layers):
            kernel_x, kernel_h, bias, _ = self.lstm.all_weights[layer]
            of_inputs = nn.functional.linear(steps, kernel_x, bias)
            outputs, h, c = [], hs[layer], cs[layer]
            for of_input in of_inputs:
                z = of_input + h @ kernel_h.T
                write, forget, new, output = z.chunk(4, dim=1)
                c = forget.sigmoid() * c + write.sigmoid() * new.tanh()
                h = output.sigmoid() * c.tanh()
                outputs.append(h)
            steps, hs[layer], cs[layer] = torch.stack(outputs), h, c
        return self.linear(steps), (torch.stack(hs), torch.stack(cs))


def train(kind, is_compiled, settings, weights, batches):
    """Yield once when ready, and then the loss of each training step."""
    model = kind(settings)
    # nn.LSTM adds two biases. If Adam moved both, their sum would move twice as fast as the bias in
    # JAX and in the script. So one stays at 0.
    zeros = {n: torch.zeros_like(p) for n, p in model.named_parameters() if 'bias_hh' in n}
    model.load_state_dict({**{n: torch.from_numpy(v) for n, v in weights.items()}, **zeros})
    parameters = [p for name, p in model.named_parameters() if name not in zeros]
    optimizer = torch.optim.Adam(parameters, lr=peer.LEARNING_RATE, fused=True)
    forward = torch.compile(model) if is_compiled else model
    shape = settings.num_layers, settings.batch_size, settings.rnn_size
    state = torch.zeros(shape), torch.zeros(shape)
    yield
    for x, y in batches:
        logits, state = forward(torch.from_numpy(x), state)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(y).flatten())
        model.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, peer.MAX_GRADIENT_NORM)
        optimizer.step()
        state = tuple(part.detach() for part in state)
        yield loss.item()


def multiply(*_):
    """Yield once when ready, and then after each product of two 2048 x 2048 matrices."""
    a, b = torch.rand(2048, 2048), torch.rand(2048, 2048)
    yield
    while True:
        yield (a @ b)[0, 0]


if __name__ == '__main__':
    kinds = {
        'lstm': functools.partial(train, Stack, False),
        'compiled_lstm': functools.partial(train, Stack, True),
        'compiled_unrolled': functools.partial(train, Unrolled, True),
    }
    peer.main(kinds, product=multiply)
