"""Questions over MQTT: the twin's and the provisioning service's answers come on a topic that names the question."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from northbound import DeliveryError, NotConnected
from northbound.mqtt import Client, Publish, Received

_LONGEST_ANSWER: Final = 256 * 1024


class Answer(NamedTuple):
    """``status`` is an HTTP status, ``fields`` are what follows the ``?`` of the topic, such as ``retry-after``."""

    status: int
    fields: dict[str, str]
    body: bytes


class Asking:
    """The questions under way on one connection. ``responses`` is what the topics of answers begin with."""

    def __init__(self, responses: str) -> None:
        self._responses = responses
        self._number = 0
        self._waiting: dict[str, asyncio.Future[Answer]] = {}

    def take(self, messages: Sequence[Received]) -> None:
        """Take what the service published; what is no answer to an open question is passed over."""
        for message in messages:
            rest = message.topic.removeprefix(self._responses)
            status, _, query = rest.partition("/?")
            fields = dict(parse_qsl(query, keep_blank_values=True))
            future = self._waiting.get(fields.get("$rid", ""))
            if rest == message.topic or future is None or future.done() or not status.isdecimal():
                continue
            if len(message.payload) <= _LONGEST_ANSWER:
                future.set_result(Answer(int(status), fields, message.payload))

    async def ask(self, client: Client, topic: str, body: bytes, seconds: float) -> Answer:
        """Publish to ``topic`` (which ends where the number of the question follows) and return the answer.

        Raises ``NotConnected`` where the connection ends before, or none comes in ``seconds``.
        """
        self._number += 1
        number = str(self._number)
        question = Publish(topic.replace("{rid}", number), body, 1)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            async with asyncio.timeout(seconds):
                return await _answered(client, question, future)
        except TimeoutError:
            about = question.topic.partition("?")[0]
            raise NotConnected(f"a question was not answered within {seconds:g} s: {about}") from None
        finally:
            del self._waiting[number]


async def _answered(client: Client, question: Publish, future: asyncio.Future[Answer]) -> Answer:
    failure: BaseException
    try:
        async with asyncio.TaskGroup() as tasks:
            watcher = tasks.create_task(client.lost(), name="connection")
            await client.publish([question])
            answer = await future
            watcher.cancel()
    except* DeliveryError as group:
        failure = group.exceptions[0]
    else:
        return answer
    raise failure.with_traceback(None)
