"""The served file: pixels -> the map of logits and what the gate looks at, in one forward pass. Knows no threshold."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Semaphore
from typing import TYPE_CHECKING

import numpy as np

from pneumo.errors import ModelError
from pneumo.films.film import to_input
from pneumo.films.preprocessing import prepare
from pneumo.model.card import Card
from pneumo.model.gate import flatten

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import Interpreter


class Served:
    """The LiteRT model of a card, warmed up; safe to call from several threads.

    An interpreter takes one film at a time, on `threads` cores. The second and further ones, up to `at_once`, are made
    when as many threads ask at the same time.

    Raises:
        ModelError: the file is no model or not the card's, or its input or outputs are not what the card says.
    """

    def __init__(self, card: Card, threads: int = 2, at_once: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._size, self._steps = card.size, card.steps
        # Given the path it would map the file: whoever writes a new model over it would change this one as it answers.
        model = card.read("served")

        def start() -> Interpreter:
            try:
                interpreter = Interpreter(model_content=model, num_threads=threads)
                interpreter.allocate_tensors()
            except (ValueError, RuntimeError) as error:
                raise ModelError(f"{card.file('served')} is not a LiteRT model: {error}") from None
            return interpreter

        first = start()
        inputs, outputs = first.get_input_details(), first.get_output_details()
        for what, details, expected in (
            ("input", inputs, [(1, card.size, card.size, 3)]),
            ("outputs", outputs, [card.output_shape, *card.feature_shapes]),
        ):
            shapes = [tuple(one["shape"].tolist()) for one in details]
            if sorted(shapes) != sorted(expected) or any(one["dtype"] != np.float32 for one in details):
                received = ", ".join(f"{s} {one['dtype'].__name__}" for s, one in zip(shapes, details, strict=True))
                raise ModelError(f"Expected the model's {what} to be {expected} float32, received {received}.")
        self._input = inputs[0]["index"]
        # a file has its outputs in any order: the card tells them apart by their shape
        index = {tuple(one["shape"].tolist()): one["index"] for one in outputs}
        self._map, self._features = index[card.output_shape], [index[shape] for shape in card.feature_shapes]
        # invoke() lets other threads run, but none may touch its interpreter meanwhile
        self._start, self._free, self._limit = start, [first], Semaphore(at_once)
        try:
            self.look(np.zeros((card.size, card.size), np.uint8))  # the first pass is slow: have it now
        except ModuleNotFoundError as error:
            raise ModelError(
                f"{card.name} needs the Python package {error.name} for its preprocessing ({', '.join(card.steps)}): "
                "install requirements.txt (`make setup`)."
            ) from None

    def look(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        """(H, W) uint8 -> (h, w) float32 logits, whose mean is the film's logit, the gate's features (d,), warnings."""
        film, warnings = prepare(pixels, self._size, self._steps)
        batch = to_input(film, self._size)
        with self._taken() as interpreter:
            interpreter.tensor(self._input)()[:] = batch  # set_tensor would make a copy of the view first
            interpreter.invoke()
            logit_map = interpreter.get_tensor(self._map)[0, :, :, 0]
            features = [interpreter.get_tensor(index) for index in self._features]
        return logit_map, flatten(features), warnings

    @contextmanager
    def _taken(self) -> "Iterator[Interpreter]":
        """An interpreter for this thread alone, once one is free."""
        with self._limit:
            try:
                interpreter = self._free.pop()
            except IndexError:  # all are taken, but there may be more of them
                interpreter = self._start()
            try:
                yield interpreter
            finally:
                self._free.append(interpreter)
