"""Spanish. See core/lexicons/shape.py for what each set does to a turn."""

from __future__ import annotations

from voiceagent.core.lexicons.shape import HUMS, SOUNDS, Lexicon, of

ES = Lexicon(
    backchannels=HUMS
    | of(
        """
        sí si ok okay vale claro bien exacto exactamente cierto ya ajá ah bueno genial perfecto entiendo verdad
        """,
        """
        ya veo, de acuerdo, por supuesto, así es, está bien, muy bien, sí sí, eso es, claro que sí, desde luego
        """,
    ),
    interruptions=of(
        """
        para pare alto espera espere no basta perdón perdona perdone disculpa disculpe silencio cállate cállese oye
        oiga stop déjame déjeme
        """,
        """
        un momento, un segundo, un minuto, espera un momento, tengo una pregunta, eso no, ya basta
        """,
    ),
    commands=of("para pare espera espere basta"),
    agreements=of(phrases="no me digas, no hay problema, no pasa nada, no te preocupes, no lo dudo"),
    openers=of("pero y oh ay ahora por favor"),
    fillers=SOUNDS
    | of("este pues bueno mmm em eem digamos", "o sea, a ver, es que, cómo se dice, quiero decir, ya sabes"),
    hesitations=SOUNDS | of("em eem mmm este pues", "o sea, a ver, es que, quiero decir"),
    unfinished=of(
        """
        el la los las un una unos unas mi mis tu tus su sus nuestro nuestra y e o u pero porque que si cuando como
        aunque ni sino mientras muy del al cada cualquier lo le me te se nos
        """,
        "para que, así que, ya que, tal como",
    ),
    leaning=of("""
        entonces a de en con sin por para sobre entre hasta desde hacia contra según tras durante es son
        era está están estoy
        soy eres somos ha he has han había puedo puede puedes quiero quiere tengo tiene voy va vamos debo hay yo él
        ella no más también
        """),
    particles=of("sobre tras"),
    openings=of(
        "quisiera quiero necesito puedes puede podría podrías dime dígame",
        """
        me gustaría, yo quiero, creo que, pienso que, mi nombre es, me llamo, qué tal si, tengo que, voy a, hay que
        """,
    ),
    answers=of(
        """
        sí si no vale ok claro hola gracias adiós exacto nunca siempre nada bueno perfecto ayuda quizás quizá perdón
        cómo qué quién dónde cuándo
        """,
        """
        muchas gracias, de nada, buenos días, buenas tardes, buenas noches, hasta luego, hasta mañana, no sé,
        no lo sé, eso es todo, por supuesto, de acuerdo, está bien, por favor, yo también, tal vez, todavía no,
        aún no, no gracias, sí gracias, creo que sí, creo que no, qué tal, cómo estás, claro que sí, por qué
        """,
    ),
    affirmations=of(
        "sí si no claro vale exacto quizás correcto",
        """
        por supuesto, de acuerdo, claro que sí, tal vez, todavía no, aún no, creo que sí, creo que no
        """,
    ),
    closers=of("gracias hoy mañana ayer ahora también verdad", "por favor, muchas gracias, eso es todo, nada más"),
    question_starts=of(
        """
        qué quién quiénes dónde cuándo cómo cuál cuáles cuánto cuánta cuántos cuántas adónde puedes puede podría
        podrías tienes tiene hay
        """,
        "por qué, de dónde, a qué, a quién, en qué, para qué, con quién",
    ),
    conjunctions=of("y pero o entonces luego", "y entonces, y luego, pero entonces"),
    subordinators=of("si cuando porque mientras aunque como", "ya que, en cuanto"),
    numbers=of("cero uno una dos tres cuatro cinco seis siete ocho nueve"),
    cardinals=of("""
        diez once doce trece catorce quince veinte treinta cuarenta cincuenta sesenta setenta ochenta noventa cien
        mil coma
        """),
    spelling=of("arroba punto guion guión como", "guion bajo, guión bajo"),
)
