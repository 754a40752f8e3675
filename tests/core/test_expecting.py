"""What the agent's words ask for, sentence by sentence."""

from __future__ import annotations

import pytest

from voiceagent.core.completeness import Expect
from voiceagent.core.expecting import expected


@pytest.mark.parametrize(
    ("text", "language", "kind"),
    [
        ("What is your phone number?", None, "number"),
        ("Sure. Please tell me your order number.", "en", "number"),
        ("And how many people will come?", "en-GB", "number"),
        ("What is your e-mail address?", "en", "email"),
        ("Could you spell your name for me?", "en", "spelling"),
        ("Could you spell your email?", "en", "email"),
        ("Is that right?", "en", "yes_no"),
        ("Okay, would you like a table by the window?", "en", "yes_no"),
        ("What would you like to drink?", "en", "any"),
        ("Your number is in the book.", "en", "any"),
        ("Is that right? Then I will book it.", "en", "any"),
        ("I have sent you an email.", "en", "any"),
        ("", "en", "any"),
        ("Wie ist Ihre Telefonnummer?", "de", "number"),
        ("Können Sie das buchstabieren?", "de", "spelling"),
        ("Ist das richtig?", "de", "yes_no"),
        ("Quel est votre numéro de client ?", "fr", "number"),
        ("¿Cuál es su correo electrónico?", "es", "email"),
        ("¿Es correcto?", "es", "yes_no"),
        ("Is that right?", "xx", "any"),
    ],
)
def test_what_was_asked_for(text: str, language: str | None, kind: Expect) -> None:
    assert expected(text, language) == kind
