"""What the models read while the user speaks, so that at the end only the last words are new to them."""

from __future__ import annotations

from dataclasses import replace

from tests.runtime.talking import engines, options, talk, virtually
from tests.runtime.test_listening import Detector
from voiceagent.core import events as e
from voiceagent.core import peer as p
from voiceagent.core.items import Message
from voiceagent.core.policy import TurnPolicy
from voiceagent.engines import scripted as s
from voiceagent.ports import LlmRequest

QUESTION = "What should I cook for dinner tonight?"


class Reading(s.ScriptedLlm):
    """Keeps the user's words it was asked to evaluate in advance."""

    def __init__(self) -> None:
        super().__init__(s.ScriptedLlmOptions(default="Rice."))
        self.read: list[str] = []

    async def prefill(self, request: LlmRequest) -> None:
        last = request.items[-1] if request.items else None
        self.read.append(last.text if isinstance(last, Message) and last.role == "user" else "")


@virtually
async def test_the_models_read_along_from_the_second_partial_transcript_on() -> None:
    llm, detector = Reading(), Detector(0.9, wants_s=0.0)
    models = replace(engines([QUESTION]), llm=llm, turn=detector)  # type: ignore[arg-type]
    async with talk(models, options(TurnPolicy(speculate=False))) as peer:
        await peer.quiet(1.0)
        await peer.say(0, 2.0)
        await peer.until(p.ReplyEnded)
        heard = [event.text for _, event, _ in peer.story.steps if isinstance(event, e.PartialTranscript)]
        assert len(heard) > 3
        words = [text for text in llm.read if text]
        assert words == [text.rstrip(" .?!,") for text in heard[1:]] and llm.read[0] == "", (
            "the conversation came first"
        )
        assert [text for _, text in detector.asked] == [*heard[1:], QUESTION]


@virtually
async def test_what_a_draft_answers_is_not_read_a_second_time() -> None:
    llm = Reading()
    models = replace(engines(["Are you there?"]), llm=llm)
    async with talk(models, options(TurnPolicy())) as peer:
        await peer.quiet(1.0)
        await peer.say(0, 1.1)
        await peer.until(p.ReplyEnded)
        steps = peer.story.steps
        begun = next(
            at for at, (_, _, commands) in enumerate(steps) if any(isinstance(c, e.StartReply) for c in commands)
        )
        assert isinstance(steps[begun][1], e.VoiceFaded | e.PartialTranscript), "before the silence was sure"
        before = [event.text for _, event, _ in steps[:begun] if isinstance(event, e.PartialTranscript)]
        assert len([text for text in llm.read if text]) == len(before[1:]) > 0
