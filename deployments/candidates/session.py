"""The frozen graph in a session, with each executor that TensorFlow has."""

from __future__ import annotations

from dataclasses import dataclass

from deployments.candidates._bucket import Bucket, open_shapes
from deployments.candidates._frozen import frozen
from deployments.candidates._interface import Runner
from deployments.candidates._session import CALLER_THREAD, SessionSettings, session_runner
from deployments.candidates._subject import Subject


@dataclass(frozen=True)
class Session:
    """One frozen graph with open axes: nothing is compiled for a new shape."""

    name: str
    order: int
    settings: SessionSettings
    lower_control_flow: bool = True
    family: str = "frozen"
    keeps_variables: bool = False

    def build(self, subject: Subject, bucket: Bucket) -> Runner:  # noqa: ARG002 - one runner serves all
        """Return a runner that serves every bucket."""
        graph = frozen(subject, open_shapes(subject.signature), self.lower_control_flow)
        return session_runner(subject, graph, self.settings)


CANDIDATES = (
    # One thread, no queue between ops: MLP 14 us against 73 with the default executor (2 cores, TF 2.21).
    Session("session-single", 10, SessionSettings("SINGLE_THREADED_EXECUTOR"), lower_control_flow=False),
    # Branches of a graph run in parallel: what wide convolutional models want.
    Session("session", 12, SessionSettings()),
    # The default executor without its thread pool: MLP 17 us; runs the ops that the single-threaded one refuses.
    Session("session-caller", 18, SessionSettings(thread_pool=CALLER_THREAD)),
)
