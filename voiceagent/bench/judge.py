"""What to make of a recording: passed or not, the rates and times it adds to, or why it does not apply. Pure.

Judged at the sound that came out of the modelled loudspeaker. Events count in two places, where sound says nothing:
when the client was told (commit), and which response a sound belongs to.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, assert_never

from voiceagent.bench.player import RATE, Player
from voiceagent.bench.recording import Recording, Uttered, Voice, agent_voice, silent_gaps
from voiceagent.bench.scenarios import Scenario

ANSWER_WITHIN_S = 5.0  # a complete turn is taken over within this, or not at all
YIELD_WITHIN_S = 1.5  # after the first voiced sample of an interruption
RESUME_WITHIN_S = 2.5  # after the end of what is not an interruption
SILENT_S = 1.2  # silence inside played sound that is no pause of a speaker
CLEAR_GAP_S = 0.15  # nothing arrives for this long: the endpoint has stopped sending
EARLY_S = 0.05  # an answer that begins this much before the end of the turn has cut it off
WORD_GAP_S = 0.15  # silence between two counted numbers


@dataclass
class Verdict:
    """`applies` False: `why` says what was missing and nothing of it is counted. Times are seconds."""

    applies: bool
    passed: bool = False
    why: str = ""
    marks: dict[str, bool] = field(default_factory=dict)  # each adds to the rate of its name
    times: dict[str, float] = field(default_factory=dict)  # each adds to the distribution of its name


def judge(scenario: Scenario, recording: Recording) -> Verdict:
    """The verdict. A broken connection is a failure of the endpoint once it has spoken, else it does not apply."""
    if recording.error and not recording.arrivals:
        return Verdict(False, why=f"no conversation: {recording.error}")
    player = recording.player()
    voice = agent_voice(player)
    match scenario.expect:
        case "answer":
            return _answered(recording, voice)
        case "quiet":
            return _quiet(recording, voice)
        case "go_on":
            return _went_on(recording, player, voice)
        case "yield":
            return _yielded(scenario, recording, player, voice)
        case "heard":
            return _heard(recording, player, voice)
        case _:
            assert_never(scenario.expect)


# --- the user's turn --------------------------------------------------------------------------------------------------


def _answered(recording: Recording, voice: list[Voice]) -> Verdict:
    said = next((uttered for uttered in recording.uttered if uttered.who == "user"), None)
    if said is None:
        return Verdict(False, why="the user did not get to speak")
    if recording.error:
        return Verdict(True, False, f"the connection broke: {recording.error}", {"answered": False})
    early = [v for v in voice if said.begin < v.begin < said.end - EARLY_S]
    fragment = _answers_a_fragment(recording, said, voice)
    cut_off = bool(early) or fragment
    after = [v for v in voice if v.begin >= said.end - EARLY_S and v.begin <= said.end + ANSWER_WITHIN_S]
    marks = {"cut_off": cut_off, "answered": bool(after)}
    times: dict[str, float] = {}
    if after and not cut_off:
        times["voice_to_voice"] = after[0].begin - said.end
    ends = [*recording.times("input_audio_buffer.speech_stopped"), *recording.times("input_audio_buffer.committed")]
    if ends and not cut_off and (last := [at for at in ends if at >= said.end - EARLY_S]):
        times["end_of_turn"] = min(last) - said.end
    if early:
        why = f"spoke {said.end - early[0].begin:.2f} s before the end of the turn"
    elif fragment:
        why = "answered a part of the turn"
    else:
        why = "" if after else f"no answer within {ANSWER_WITHIN_S:.0f} s"
    return Verdict(True, not cut_off and bool(after), why, marks, times)


def _answers_a_fragment(recording: Recording, said: Uttered, voice: list[Voice]) -> bool:
    """A response that was created before the end of the turn, and was heard."""
    early = {
        event["response"]["id"]
        for at, event in recording.events
        if event["type"] == "response.created" and said.begin < at < said.end - EARLY_S
    }
    return any(v.response in early for v in voice)


def _quiet(recording: Recording, voice: list[Voice]) -> Verdict:
    noise = next((uttered for uttered in recording.uttered), None)
    if noise is None:
        return Verdict(False, why="the noise was not played")
    spoke = any(v.begin >= noise.begin for v in voice)
    return Verdict(True, not spoke, "answered a noise" if spoke else "", {"answered_noise": spoke})


# --- something over the agent -----------------------------------------------------------------------------------------


def _over(recording: Recording, player: Player, voice: list[Voice]) -> tuple[Uttered, str] | Verdict:
    """What was said over the agent and over which response; a verdict where the agent was not speaking by then."""
    over = next((uttered for uttered in recording.uttered if uttered.who != "starter"), None)
    if over is None:
        return Verdict(False, why="the agent did not speak" if not voice else "nothing was said over it")
    before = [v for v in voice if v.begin <= over.begin]
    if not before or not player.playing(over.begin):
        return Verdict(False, why="the agent was not speaking at the time")
    return over, before[-1].response


def _went_on(recording: Recording, player: Player, voice: list[Voice]) -> Verdict:
    echo = recording.uttered and all(uttered.who == "starter" for uttered in recording.uttered)
    if echo:
        if not voice:
            return Verdict(False, why="the agent did not speak")
        begin, over_end, response = voice[0].begin, recording.end - RESUME_WITHIN_S, voice[0].response
    else:
        found = _over(recording, player, voice)
        if isinstance(found, Verdict):
            return found
        begin, over_end, response = found[0].begin, found[0].end, found[1]
    horizon = min(recording.end, over_end + RESUME_WITHIN_S)
    finished = _finished(recording, player, response)
    if finished is not None and finished < horizon:
        if finished < begin + 0.3 * (over_end - begin):
            return Verdict(False, why="the agent's answer was over too soon")
        horizon = finished
    spoken = [v for v in voice if v.response == response and v.begin < horizon]
    last = max(v.end for v in spoken)
    gaps = silent_gaps(player, response, begin, min(horizon, max(last, begin)))
    stopped = last < horizon - SILENT_S
    gap_s = max((b - a for a, b in gaps), default=0.0)
    held = [b.begin - a.end for a, b in zip(spoken, spoken[1:], strict=False) if b.begin > begin]
    gap_s = max([gap_s, *(pause for pause in held if pause >= SILENT_S)])
    marks = {"false_stop": stopped}
    if not stopped:
        marks["paused"] = gap_s > 0.1
    told = [at for at in recording.times("input_audio_buffer.speech_started", begin) if at <= horizon]
    why = f"silent from {last - begin:.2f} s after the onset" if stopped else ""
    if stopped and told:
        why += f", speech_started after {told[0] - begin:.2f} s"
    times = {} if stopped else {"gap": gap_s}
    return Verdict(True, not stopped, why, marks, times)


def _finished(recording: Recording, player: Player, response: str) -> float | None:
    """When a response that ran to its own end was played out; None for one that did not."""
    for _, event in recording.events:
        if event["type"] == "response.done" and event["response"]["id"] == response:
            if event["response"].get("status") == "completed":
                if any(cut.response == response and cut.at < recording.end for cut in player.cuts):
                    arrived = sum(len(a.pcm) // 2 for a in recording.arrivals if a.response == response)
                    played = sum(len(p.pcm) for p in player.pieces if p.response == response)
                    if arrived - played > 0.05 * RATE:
                        return None  # the client was told to drop the rest
                return max((p.end for p in player.pieces if p.response == response), default=None)
    return None


def _yielded(scenario: Scenario, recording: Recording, player: Player, voice: list[Voice]) -> Verdict:
    found = _over(recording, player, voice)
    if isinstance(found, Verdict):
        return found
    over, response = found
    finished = _finished(recording, player, response)
    if finished is not None and finished < over.begin + YIELD_WITHIN_S:
        return Verdict(False, why="the agent's answer ended by itself")
    old = [v for v in voice if v.response == response]
    last = max(v.end for v in old)
    yielded = last <= over.begin + YIELD_WITHIN_S
    marks, times = {"yielded": yielded}, _stop_times(recording, player, over, response)
    why = "" if yielded else f"still spoke {last - over.begin:.2f} s after the onset"
    passed = yielded
    if yielded and scenario.wants_answer:
        answers = [v for v in voice if v.response != response and v.begin > over.begin]
        answered = any(v.begin >= over.end - EARLY_S for v in answers)
        marks["answered"] = answered
        if answered and answers[0].begin >= over.end - EARLY_S:
            times["voice_to_voice_after_interruption"] = answers[0].begin - over.end
        passed, why = answered, "" if answered else "stopped, but did not answer"
    return Verdict(True, passed, why, marks, times)


def _stop_times(recording: Recording, player: Player, over: Uttered, response: str) -> dict[str, float]:
    """From the first voiced sample of the user; absent: never.

    Last sound sent before the first hold and for good, last sound played before the first break, client told.
    """
    times: dict[str, float] = {}
    came = [a.at for a in recording.arrivals if a.response == response and a.at <= over.begin + 3.0]
    if came and came[-1] > over.begin - CLEAR_GAP_S:  # else it had sent everything long before: nothing to stop
        after = [at for at in came if at >= over.begin - CLEAR_GAP_S]
        stop = next((a for a, b in zip(after, after[1:], strict=False) if b - a > CLEAR_GAP_S), after[-1])
        times["stop_sent"] = max(0.0, stop - over.begin)
        times["stop_for_good"] = max(0.0, came[-1] - over.begin)
    gaps = [g for g in silent_gaps(player, response, over.begin, over.begin + 3.0) if g[1] - g[0] > CLEAR_GAP_S]
    if gaps:
        times["stop_played"] = max(0.0, gaps[0][0] - over.begin)
    told = [*recording.times("input_audio_buffer.speech_started", over.begin)]
    told += [
        at
        for at, event in recording.events
        if event["type"] == "response.done"
        and event["response"]["id"] == response
        and event["response"].get("status") == "cancelled"
        and at >= over.begin
    ]
    if told and min(told) < over.begin + 3.0:
        times["commit"] = min(told) - over.begin
    return times


# --- what was heard ---------------------------------------------------------------------------------------------------


def _heard(recording: Recording, player: Player, voice: list[Voice]) -> Verdict:
    """The endpoint's account of an interrupted count against the numbers that came out of the loudspeaker.

    A number is a stretch of voice between silences of 150 ms. One that was cut short may be counted or not, so the
    error is the distance to the nearer of the two counts, in whole words.
    """
    found = _over(recording, player, voice)
    if isinstance(found, Verdict):
        return found
    over, response = found
    told = account(recording, response)
    if told is None:
        return Verdict(False, why="the endpoint does not say what it believes was heard")
    pieces = [p for p in player.pieces if p.response == response]
    end = max(p.end for p in pieces)
    if _finished(recording, player, response) is not None:
        return Verdict(False, why="the agent was not interrupted")
    words = _bursts([v for v in voice if v.response == response])
    if len(words) < 2 or any(b - a > 1.1 for a, b in words):
        return Verdict(False, why="the words of this answer cannot be counted at the sound")
    cut = end - words[-1][1] < 0.03
    low, high = len(words) - cut, len(words)
    believed = len(re.findall(r"\w+(?:-\w+)*", told))
    error = max(low - believed, believed - high, 0)
    why = "" if error <= 1 else f"{low}..{high} words were heard, it believes {believed}: {told!r}"
    times = {"heard_error_words": float(error), **_stop_times(recording, player, over, response)}
    return Verdict(True, error <= 1, why, {"heard_within_1_word": error <= 1}, times)


def account(recording: Recording, response: str) -> str | None:
    """What the endpoint says it said: the retrieved item, else the response's final transcript."""
    items = {a.item for a in recording.arrivals if a.response == response}
    for kind in ("conversation.item.retrieved", "conversation.item.done"):
        for _, event in reversed(recording.events):
            if event["type"] == kind and event["item"]["id"] in items:
                return _text(event["item"])
    for _, event in reversed(recording.events):
        if event["type"].endswith("audio_transcript.done") and event["response_id"] == response:
            return str(event["transcript"])
    return None


def _text(item: dict[str, Any]) -> str | None:
    parts = [part.get("transcript", part.get("text")) for part in item.get("content", [])]
    return " ".join(part for part in parts if part) if any(part is not None for part in parts) else None


def _bursts(voice: list[Voice]) -> list[tuple[float, float]]:
    words: list[tuple[float, float]] = []
    for v in voice:
        if words and v.begin - words[-1][1] < WORD_GAP_S:
            words[-1] = (words[-1][0], v.end)
        else:
            words.append((v.begin, v.end))
    return words
