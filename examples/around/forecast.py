"""A forecast, step by step: each request brings one temperature, the replica keeps the LSTM's states between them.

The LSTM knows standardised values; clients send degrees Celsius, and get them.
"""

from __future__ import annotations

import keras

from deployments.tensors import Array

UNITS = 16
MEAN, DEVIATION = 11.0, 8.0
"""Of the temperatures, in degrees Celsius."""


def standardised(value: Array) -> Array:
    """Return temperatures as the model knows them."""
    return (value - MEAN) / DEVIATION


def degrees(forecast: Array) -> dict[str, Array]:
    """Return forecasts in degrees."""
    return {"forecast": forecast * DEVIATION + MEAN}


def model() -> keras.Model:
    """Return one step of an LSTM: `value` and `forecast` `[batch, 1]`, its states `[batch, UNITS]` in and out."""
    keras.utils.set_random_seed(0)
    value = keras.Input((1,), name="value")
    h, c = (keras.Input((UNITS,), name=name) for name in ("h", "c"))
    step = keras.layers.Reshape((1, 1))(value)
    hidden, h_next, c_next = keras.layers.LSTM(UNITS, return_state=True, name="lstm")(step, initial_state=[h, c])
    forecast = keras.layers.Dense(1, name="forecast")(hidden)
    return keras.Model({"value": value, "h": h, "c": c}, {"forecast": forecast, "h_next": h_next, "c_next": c_next})


def whole(made: keras.Model) -> keras.Model:
    """Return the same layers over a whole series `[batch, steps, 1]`, for comparison: its forecast after each step."""
    series = keras.Input((None, 1))
    lstm = keras.layers.LSTM(UNITS, return_sequences=True)
    dense = keras.layers.Dense(1)
    over = keras.Model(series, dense(lstm(series)))
    lstm.set_weights(made.get_layer("lstm").get_weights())
    dense.set_weights(made.get_layer("forecast").get_weights())
    return over
