"""French. See core/lexicons/shape.py for what each set does to a turn."""

from __future__ import annotations

from voiceagent.core.lexicons.shape import HUMS, SOUNDS, Lexicon, of

FR = Lexicon(
    backchannels=HUMS
    | of(
        """
        oui ouais ok okay exactement vraiment bien super parfait voilà bon effectivement ah certes bravo d'accord
        """,
        """
        je vois, je comprends, bien sûr, ah oui, ah bon, c'est ça, très bien, tout à fait, ça marche, oui oui
        """,
    ),
    interruptions=of(
        "stop attends attendez non arrête arrêtez pardon silence pause assez minute",
        """
        excusez moi, excuse moi, un instant, un moment, une seconde, une minute, tais toi, taisez vous, ça suffit,
        laisse moi, laissez moi, j'ai une question, c'est faux, ce n'est pas
        """,
    ),
    commands=of("stop arrête arrêtez attends attendez"),
    agreements=of(phrases="non mais oui, pas de problème, non vraiment"),
    openers=of("mais et alors oh bon hé", "s'il te plaît, s'il vous plaît"),
    fillers=SOUNDS
    | of(
        "euh heu ben bah hein hum enfin bref",
        """
        tu vois, vous voyez, tu sais, vous savez, comment dire, voyons voir, je veux dire
        """,
    ),
    hesitations=SOUNDS | of("euh heu ben bah hum", "comment dire, voyons voir, je veux dire"),
    unfinished=of(
        """
        le la les un une des du de mon ma mes ton ta tes son sa ses notre nos votre vos leur leurs ce cet
        cette ces et ou mais car que si donc ni quand comme parce lorsque puisque quoique très au aux
        """,
        "parce que, afin que, bien que, pour que, est ce que, qu'est ce que",
    ),
    leaning=of("""
        à en dans sur sous avec sans pour par chez vers entre contre depuis pendant avant après jusque est sont
        était suis es êtes sommes ai as a avons avez ont avait peux peut pouvez veux veut voulez dois doit faut fait
        va vais vas allez je tu il nous on elle ils elles vous qui quoi où ne pas plus aussi
        """),
    particles=of("avant après dessus dedans contre"),
    openings=of(
        "j'aimerais c'est",
        """
        je voudrais, je veux, j'ai besoin, j'ai besoin de, est ce que, pouvez vous, peux tu, pourriez vous,
        pourrais tu, dis moi, dites moi, je pense que, je crois que, il y a, je m'appelle, mon nom est, et si,
        que penses tu de
        """,
    ),
    answers=of(
        """
        oui non ouais si ok okay bonjour bonsoir salut merci allô parfait voilà exactement jamais toujours rien
         pardon quoi comment pourquoi qui d'accord
        """,
        """
        bien sûr, merci beaucoup, au revoir, bonne nuit, bonne journée, je ne sais pas, je sais pas, c'est tout,
        c'est ça, ça va, comment ça va, pas du tout, pas encore, non merci, oui merci, s'il vous plaît,
        s'il te plaît, moi aussi, de rien, je crois, tout à fait, excusez moi, pas de problème, peut être
        """,
    ),
    affirmations=of(
        "oui ouais non si ok exactement absolument d'accord",
        "bien sûr, pas du tout, pas encore, peut être, tout à fait",
    ),
    closers=of(
        "merci aussi demain maintenant hier aujourd'hui", "s'il vous plaît, s'il te plaît, c'est tout, n'est ce pas"
    ),
    question_starts=of(
        """
        qui que quoi où quand comment pourquoi combien quel quelle quels quelles est d'où
        """,
        """
        qu'est ce, est ce, c'est quoi, peux tu, pouvez vous, pourriez vous, as tu, avez vous, es tu, êtes vous,
        y a t il, à quelle
        """,
    ),
    conjunctions=of("et mais ou donc alors puis", "et puis, et donc, et alors, mais alors"),
    subordinators=of("si quand lorsque puisque pendant quoique", "parce que, bien que, dès que"),
    numbers=of("zéro un une deux trois quatre cinq six sept huit neuf"),
    cardinals=of("""
        dix onze douze treize quatorze quinze seize vingt trente quarante cinquante soixante cent mille virgule
        """),
    spelling=of("arobase point tiret underscore comme bas"),
)
