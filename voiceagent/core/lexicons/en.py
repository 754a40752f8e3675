"""English. See core/lexicons/shape.py for what each set does to a turn."""

from __future__ import annotations

from voiceagent.core.lexicons.shape import HUMS, SOUNDS, Lexicon, of

EN = Lexicon(
    backchannels=HUMS
    | of(
        """
        right yeah yep yup yes okay ok sure cool nice wow great really true exactly absolutely totally indeed
        alright ooh oh aha gotcha huh ha
        """,
        """
        i see, i know, all right, got it, go on, makes sense, of course, for sure, that's right, oh really, oh wow,
        i understand, sounds good, no way
        """,
    ),
    interruptions=of(
        "stop wait no nope pause quiet enough listen actually cancel",
        """
        hold on, hang on, hold up, excuse me, shut up, be quiet, that's enough, one second, one moment,
        just a second, just a moment, just a minute, wait a minute, wait a second, never mind, let me, can i, may i,
        i have a question, hold it, not that, that's not, that's wrong, go back, sorry to interrupt
        """,
    ),
    commands=of("stop wait", "hold on, hang on, shut up, be quiet"),
    agreements=of(
        phrases="""
        no way, no problem, no worries, no doubt, no kidding, no need, no wonder, actually yeah, actually yes,
        let me see, wait really
        """
    ),
    openers=of("please just hey but and so now sorry oh", "i said, can you, could you, will you, would you"),
    fillers=SOUNDS | of("well hmm", "you know, i mean, let's see, let me see, let me think, kind of, sort of"),
    hesitations=SOUNDS | of(phrases="i mean, let's see, let me see, let me think"),
    unfinished=of(
        """
        a an the my your our their its and or but because if than whether although though unless while every each
        very which whose who's i'm you're we're they're i'd you'd we'd they'd i'll you'll we'll they'll i've we've
        there's it's that's he's she's here's what's who's where's
        """,
        """
        as well as, such as, so that, even though, the same, a few, a couple of, kind of a
        """,
    ),
    leaning=of("""
        of to for with at from by about into onto between against during without through under over until since as
        like in on off up down out around near after before is are was were am be been being do does did have has
        had can could will would should shall may might must gonna wanna gotta going want wants need needs his this
        these those some any i we they he she that what where when who how why so not just also maybe really
        """),
    particles=of("on off in out up down over back around through about"),
    openings=of(
        "let's",
        """
        i would like, i'd like, i want, i need, can you, could you, would you, will you, can i, could i, may i,
        let me, do you, did you, are you, i was, i think, i think i, i guess, i was wondering, tell me, give me,
        show me, what about, how about, what if, i have a, there is, there are, please tell, it depends on,
        i'm looking, i'm trying, i'm calling, my name, the reason, one of the, i don't, i can't, i would, i'm going
        """,
    ),
    answers=of(
        """
        yes yeah yep yup no nope nah okay ok sure hello hi hey thanks bye goodbye please right correct exactly
        absolutely definitely never always alright fine good great perfect nothing none stop wait cancel help repeat
        maybe what why who where when how really pardon sorry
        """,
        """
        thank you, thank you very much, thanks a lot, all right, of course, not really, i don't know, no thanks,
        no thank you, good morning, good afternoon, good evening, good night, how are you, that's it, that's all,
        that's right, sounds good, i think so, i don't think so, i guess so, i hope so, no problem, never mind,
        go ahead, go on, me too, not yet, you're welcome, nice to meet you, see you, see you later, excuse me,
        i'm sorry, i see, got it, hold on, come on, come in, shut up, so what, what else, anything else, why not,
        like what
        """,
    ),
    affirmations=of(
        """
        yes yeah yep yup no nope nah sure correct right absolutely definitely exactly okay ok maybe perhaps mhm
        """,
        """
        of course, not really, not yet, i do, i don't, i did, i didn't, i am, i'm not, it is, it isn't, i think so,
        i don't think so, uh huh, mm hmm
        """,
    ),
    closers=of(
        "please thanks too instead though anyway today tomorrow yesterday tonight now",
        """
        thank you, right now, that's it, that's all, for me, as well, you know what i mean
        """,
    ),
    question_starts=of("""
        what who whom whose where when why how which is are was were am do does did can could will would should
        shall may might have has what's who's where's when's why's how's isn't aren't don't doesn't didn't can't
        couldn't won't wouldn't shouldn't haven't hasn't
        """),
    conjunctions=of("and but or so because then plus also which", "and so, and then, but then, so then"),
    subordinators=of(
        "if when because while although though unless since whenever once until", "even if, even though, as soon as"
    ),
    verbs=of("""
        is are was were am be been do does did done have has had can could will would should shall may might must
        cannot isn't aren't wasn't weren't don't doesn't didn't haven't hasn't hadn't can't couldn't won't wouldn't
        shouldn't mustn't i'm you're he's she's it's we're they're that's there's what's who's where's how's let's
        i'll you'll he'll she'll we'll they'll it'll i've you've we've they've i'd you'd he'd she'd we'd they'd
        here's say says said go goes went gone get gets got make makes made know knows knew think thinks thought
        take takes took see sees saw come comes came want wants wanted look looks looked use uses used find finds
        found give gives gave tell tells told work works worked call calls called try tries tried ask asks asked
        need needs needed feel feels felt become becomes leave leaves left put puts mean means meant keep keeps kept
        let lets begin begins began seem seems help helps helped talk talks turn turns turned start starts started
        show shows hear hears heard play plays run runs ran move moves live lives lived believe hold holds bring
        brings happen happens happened write writes wrote sit stand lose lost pay pays paid meet met include
        continue set learn change lead understand watch follow stop create speak read spend grow open walk win offer
        remember love loves loved consider buy bought wait serve die send sent expect build built stay fall fell cut
        reach kill remain like likes liked book booked cancel repeat spell order ordered add added close drop
        dropped explain describe check confirm schedule remind wonder prefer forget forgot hurt
        """),
    numbers=of("zero oh o one two three four five six seven eight nine double triple"),
    cardinals=of("""
        ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty
        sixty seventy eighty ninety hundred thousand million billion half point
        """),
    spelling=of("at dot dash hyphen underscore point slash double triple as capital", "as in"),
)
