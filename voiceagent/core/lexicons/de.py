"""German. See core/lexicons/shape.py for what each set does to a turn."""

from __future__ import annotations

from voiceagent.core.lexicons.shape import HUMS, SOUNDS, Lexicon, of

DE = Lexicon(
    backchannels=HUMS
    | of(
        """
        ja jo jap okay ok genau stimmt richtig klar gut schön toll super echt wirklich aha achso ach natürlich
        sicher verstehe
        """,
        "ach so, alles klar, ich verstehe, ja genau, na klar, ach ja, ja gut",
    ),
    interruptions=of(
        """
        stopp stop halt warte warten nein moment ruhe schluss pause genug entschuldigung nee
        """,
        """
        warte mal, warten sie, moment mal, einen moment, einen augenblick, hör auf, hören sie auf, sei still,
        entschuldigen sie, lass mich, darf ich, eine frage, ich habe eine frage, das reicht, das stimmt nicht
        """,
    ),
    commands=of("stopp stop halt warten", "hör auf, hören sie auf"),
    agreements=of(phrases="nein wirklich, nein echt, kein problem, keine sorge, halt ja"),
    openers=of("bitte aber und also jetzt hey so nun"),
    fillers=SOUNDS | of("äh ähm öh öhm hm also naja tja na halt eben", "na ja, sagen wir, wie soll ich sagen"),
    hesitations=SOUNDS | of("äh ähm öh öhm hm naja", "na ja, sagen wir, wie soll ich sagen"),
    unfinished=of("""
        der die das den dem des ein eine einen einem einer eines mein meine meinen meinem meiner dein deine deinen
        ihr ihre ihren unser unsere sein seine seinen und oder aber denn weil dass ob wenn als sondern sowie damit
        obwohl sehr ganz zum zur im am vom beim ins ans
        """),
    leaning=of("""
        in an auf für mit von zu nach bei aus um über unter vor hinter zwischen durch gegen ohne bis seit während
        wegen ist sind war waren bin bist hat haben habe hatte kann können möchte möchten will wollen soll sollte
        muss müssen würde darf ich wir sie er es nicht auch noch so wie was wo wer mal
        """),
    particles=of("an auf aus ab ein zu mit vor nach um"),
    openings=of(
        phrases="""
        ich möchte, ich möchte gern, ich möchte gerne, ich würde gern, ich hätte gern, ich hätte gerne, ich will,
        ich brauche, ich würde gerne, können sie, kannst du, könnten sie, könntest du, ich glaube, sag mir,
        sagen sie mir, was ist mit, wie wäre es mit, mein name ist, ich heiße, es gibt, gibt es
        """
    ),
    answers=of(
        """
        ja nein nee doch okay ok hallo hi danke bitte tschüss genau richtig klar gut gerne stimmt nie immer nichts
        vielleicht natürlich hilfe was warum wer wo wann wie wirklich entschuldigung
        """,
        """
        vielen dank, danke schön, danke sehr, guten tag, guten morgen, guten abend, gute nacht, auf wiedersehen,
        alles klar, auf keinen fall, auf jeden fall, ich weiß nicht, ich weiß es nicht, weiß ich nicht,
        das ist alles, das war's, nein danke, ja bitte, ich glaube schon, ich glaube nicht, noch nicht, wie geht's,
        wie bitte, kein problem, ich auch, das stimmt, gern geschehen
        """,
    ),
    affirmations=of(
        "ja jo jap nein nee doch klar genau richtig natürlich sicher vielleicht stimmt",
        "auf jeden fall, auf keinen fall, noch nicht",
    ),
    closers=of(
        "bitte danke heute morgen jetzt auch trotzdem oder", "vielen dank, danke schön, nicht wahr, das ist alles"
    ),
    question_starts=of("""
        was wer wen wem wessen wo wohin woher wann warum weshalb wieso wie welche welcher welches ist sind war hat
        haben hast habt kann kannst können könnte könnten könntest will willst soll darf muss gibt bist wird werden
        weißt wissen
        """),
    conjunctions=of("und aber oder also dann denn", "und dann, und so, aber dann"),
    subordinators=of("wenn weil während obwohl falls sobald nachdem bevor als da"),
    numbers=of("null eins zwei zwo drei vier fünf sechs sieben acht neun"),
    cardinals=of("""
        zehn elf zwölf zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig hundert tausend komma
        """),
    spelling=of("at punkt strich bindestrich unterstrich minus wie"),
)
