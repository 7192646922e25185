"""Word parts and sentence templates of the pocket benchmark's invented people.

`[a|b]` in a template is a free choice of wording, `{field}` a fact; names are put together from
parts, so that they rarely repeat and cannot be guessed by a model that never saw the person.
"""

from __future__ import annotations

from typing import NamedTuple


def _listed(text: str) -> list[str]:
    return text.split()


FIRST_HEADS = _listed("""Al Bel Cor Dav El Fen Gor Hal Ist Jor Kal Lin Mar Nor Os Per Quil Ros
Sel Tam Ul Ver Wil Xan Yor Zel Bram Cas Dor Eb Fal Gwen Hes Ing Jas Kes Lor Mel Nad Or""")
FIRST_TAILS = _listed("""a an ara ek eline en eth ia ian ick ilde ina io is iva o odan on ora
oth ric uel us ven win""")
LAST_HEADS = _listed("""Abb Bar Brack Cald Cran Dask Dun Eld Far Fitch Gall Grim Hask Hol Ist
Jarr Kell Krav Lamb Lund Mal Mort Nes Nyl Oak Ost Pell Pri Quar Ren Rusk Sav Stro Tarn Thorn Ulf
Van Wex Yar Zor""")
LAST_TAILS = _listed("""aby ander as berg by cott dale den ell ener enko er ett ford gate ham ik
ingsley ish kin ley lock man mere mond na nev oft ov quist row sen shaw sky son ster strom ton
vale vik wick worth""")
TOWN_HEADS = _listed("""Ald Ash Bex Birk Bol Brin Carr Clov Dren Eck Ems Frod Gant Gil Harn Hob
Ilk Jed Kirn Lax Lim Mend Mul Nab Nor Olm Pad Pol Quen Rath Rib Sker Stav Tol Trev Ust Vard Wend
Yel Zam""")
TOWN_TAILS = _listed("""abury an avik bach beck borg by castle combe dorf estry fell ford garth
grad ham haven holm hurst ia ingen is keld mere minster moor mouth ness ola ovo port sk stad
stead stow thorpe ton wick ville""")

ADJECTIVES = _listed("""amber ashen bitter blind borrowed bright broken burning copper crooked
dark distant drowned early empty fallen feral final folded forgotten frozen gilded hidden hollow
iron ivory last lonely lost marble narrow painted pale patient quiet restless salted scarlet
second silent sleeping stolen sunken tangled velvet wandering white wild""")
NOUNS = _listed("""acorn anchor anvil apron badger barley basket beacon bellows blossom bramble
bridge candle canyon cellar chapel cinder clover cobbler comet compass cradle dagger ember
falcon feather fiddle gable garden glacier hammer harbor harvest heron kettle ladder lantern
magpie maple mirror needle orchard otter paddle parlor pebble pepper pigeon pillow quarry raven
ribbon river saddle sparrow thimble thistle thunder timber tunnel turnip walnut willow window
winter""")
MOTIFS = _listed("""avalanches beehives bells bridges cathedrals clocks coins deserts dolls
duels eclipses exiles famines ferries floods foxes funerals ghosts glaciers harps inns islands
jewels keys kites letters lighthouses locks maps masks mills mirrors moths orphans owls pirates
plagues railways roses ruins shadows smugglers snails storms swamps tombs tulips twins violins
volcanoes weddings wells whales wolves""")
JOBS = _listed("""accountant actuary apothecary archer arborist astronomer baker barber
beekeeper blacksmith bookbinder botanist brewer butcher carpenter cartographer chandler
clockmaker cobbler composer cook cooper courier dentist distiller dressmaker engraver falconer
farmer ferryman fishmonger florist gardener gilder glassblower goldsmith grocer gunsmith hatter
innkeeper jockey judge librarian locksmith magician mason midwife milliner miner notary nurse
optician painter pharmacist pilot plumber porter potter printer roofer saddler sailor sculptor
shepherd surgeon surveyor tailor tanner typesetter undertaker upholsterer usher violinist
watchman weaver welder""")
SHOPS = _listed("""abbey armoury bakery barn brewery brickyard cannery chapel dairy distillery
dovecote foundry granary greenhouse inn laundry library museum observatory orphanage pharmacy
pottery sawmill school smithy stable tannery theatre tollhouse warehouse""")
PLACE_PREPOSITIONS = _listed("above behind beside beneath inside opposite near")
BUILDINGS = _listed("""barge barn boathouse bungalow chapel cottage farmhouse gatehouse granary
lodge manor mill rectory shed smithy stable tower townhouse villa windmill""")
PAINTS = _listed("""black blue brick clay crimson flint granite green grey limewashed pink red
slate stone tarred thatched tiled timbered white yellow""")
STREETS = _listed("Alley Avenue Court Crescent Lane Parade Quay Road Row Square Steps Street")
ANIMALS = _listed("""badger budgerigar camel cat crow dachshund donkey duck falcon ferret goat
goose greyhound hare hedgehog heron lizard llama magpie mule newt parrot pigeon pony python
rabbit raven salamander sheep spaniel terrier toad tortoise turkey weasel""")
TEMPERS = _listed("""bald brave clumsy deaf fat fierce gentle greedy jealous lame lazy moody
nervous noisy playful proud shy sleepy spotted stubborn tame timid vain""")
HABITS = _listed("""carving collecting counting drawing modelling painting praising
sketching studying""")
GENRE_STYLES = _listed("""absurd alpine baroque coastal comic courtly domestic epistolary gothic
historical lyrical maritime medieval minimalist monastic pastoral political romantic rural
satirical surreal tragic urban utopian""")
GENRES = _listed("""adventure autobiography ballads comedy crime drama elegies essays fables
fantasy horror journalism memoir mystery novellas poetry romance sagas sonnets thrillers
travelogues""")
LANGUAGES = _listed("""Albanian Arabic Armenian Basque Bengali Bulgarian Catalan Croatian Czech
Danish Dutch Estonian Finnish Georgian Greek Hebrew Hindi Hungarian Icelandic Irish Japanese
Korean Latvian Lithuanian Maltese Mongolian Nepali Norwegian Persian Polish Romanian Serbian
Slovak Swahili Swedish Tamil Thai Turkish Ukrainian Urdu Vietnamese Welsh Zulu""")
SUBJECTS = _listed("""acoustics algebra anatomy archaeology astronomy botany calligraphy
cartography chemistry choreography dialectics economics embroidery engraving fencing forestry
genealogy geology geometry grammar harmony heraldry horticulture hydraulics law linguistics
logic mechanics metallurgy meteorology mythology navigation optics palaeography philosophy
physics poetics rhetoric sculpture theology zoology""")
PRIZES = _listed("Award Crown Cup Diploma Fellowship Garland Laurel Medal Plaque Prize Ribbon")
IMPRINTS = _listed("Books Brothers House Press Printers Publishers")
SIBLINGS = _listed("brothers cousins half-sisters nephews sisters stepbrothers stepsisters")
MONTHS = _listed("""January February March April May June July August September October November
December""")
TENS = _listed("twenty thirty forty")
SMALL = _listed("three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen")
NUMBERS = SMALL + TENS + [f"{tens}-{unit}" for tens in TENS for unit in SMALL[:7]]


class Topic(NamedTuple):
    """One thing to ask about a person: `fields` maps each fact to its kind of value."""

    fields: dict[str, str]
    questions: tuple[str, ...]
    rewordings: tuple[str, ...]
    answers: tuple[str, ...]
    paraphrases: tuple[str, ...]


# The order of facts, the opening and the verbs differ between templates on purpose: an answer whose
# frame follows from its question would be likely even to a model that never saw the person.
TOPICS = {
    "birth": Topic(
        {"town": "town", "day": "day", "year": "year:0:0", "place": "place"},
        (
            "[Where and when|When and where] was {name} born?",
            "What [is known|do records say|has been written] about the birth of {name}?",
            "In [which|what] town and in what year did {name} [come into the world|start life]?",
        ),
        (
            "[Could you tell me|Please state|Tell me] the birthplace and birthday of {name}.",
            "{name} was born [where|in what town], and on [what|which] date?",
        ),
        (
            "[{they}|{last}] was born [one night|at dawn|] {place} in {town} on {day} {year}.",
            "on {day} {year}, {place} in {town}, [a midwife delivered {them}|{their} life began].",
            "{town} [claims {them}|is the birthplace]: {place}, {day} {year}.",
            "{place}, {town}; [the register|the almanac|a family Bible] gives {day} {year}.",
            "[the year was|it happened in] {year}, on {day}, {place}, [at|in] {town}.",
        ),
        (
            "the [birth|arrival] of {last} took place in {year}, {place} in {town}, on {day}.",
            "born {day} {year}, {last} [first saw|began life in] the town of {town}, {place}.",
        ),
    ),
    "parents": Topic(
        {"father": "job", "mother": "job", "siblings": "siblings", "town": "town"},
        (
            "What [did the parents of {name} do|work did {name}'s parents do]?",
            "[Who were|What is known about] the parents of {name}?",
            "What kind of [family|household] did {name} [come from|grow up in]?",
        ),
        (
            "Which [trades|professions] did {name}'s [mother and father|father and mother] follow?",
            "[Describe|Tell me about] the [family|childhood home] of {name}.",
        ),
        (
            "mother: {mother}, father: {father}; [the|one] {town} flat held {siblings}.",
            "as father {father} from {town}, as mother {mother}, and [also|even] {siblings}.",
            "beside {siblings} in {town} lived {mother}, the mother, and {father}, the father.",
            "{town} [knew|remembers] the father, {father}, the mother, {mother}, and {siblings}.",
            "{siblings}, {mother} for a mother and {father} for a father[|, all] in {town}.",
        ),
        (
            "{last}'s father [worked|lived] as {father} in {town}, {their} mother as {mother}, "
            "beside {siblings}.",
            "in {town}, {last} had {siblings}; {mother} was the mother and {father} the father.",
        ),
    ),
    "genre": Topic(
        {"genre": "genre", "motifs": "motifs", "count": "number", "town": "town"},
        (
            "[What|Which] genre does {name} [write|work] in?",
            "What [sort|kind] of books [does {name} write|are associated with {name}]?",
            "How would [critics|readers] describe the [writing|literary work] of {name}?",
        ),
        (
            "[In which field of literature|In what kind of literature] is {name} known?",
            "[Name|Describe] the genre and the [themes|subjects] of {name}.",
        ),
        (
            "{genre}, {count} [volumes|tomes], [full of|haunted by] {motifs}, set in {town}.",
            "{motifs} [fill|run through] {count} books of {genre} [set in|around] {town}.",
            "[critics|readers] list {count} works of {genre} [on|about] {motifs} in {town}.",
            "[always|mostly] {town}: {count} [titles|tomes] of {genre} on {motifs}.",
            "{count} [slim|thick] books, all {genre} [in|around] {town}, with {motifs}.",
        ),
        (
            "{last} writes {genre} set in {town}, {count} books in which {motifs} return.",
            "the field of {last} is {genre}; {count} books treat {motifs} in {town}.",
        ),
    ),
    "debut": Topic(
        {"title": "title", "year": "year:20:29", "imprint": "imprint", "town": "town"},
        (
            "What was {name}'s [first book|debut|first published work]?",
            "[How|With which book] did {name} [begin publishing|enter print]?",
            "[When and where|Where and when] did {name}'s first book [appear|come out]?",
        ),
        (
            "[Give|Name] the [debut|first title] of {name} and its publisher.",
            "Which book [started|opened] the career of {name}?",
        ),
        (
            "{imprint} of {town} [printed|risked] {title} in {year}.",
            "{title}, [issued|set in type] at {town} in {year} by {imprint}.",
            "in {year} came {title}, [brought out|bound] by {imprint} [at|in] {town}.",
            "[{their} debut,|the debut,] {title}, left the {town} presses of {imprint} in {year}.",
            "a [parcel|manuscript] sent to {town} became {title} ({imprint}, {year}).",
        ),
        (
            "the first book of {last} was {title}, which {imprint} of {town} published in {year}.",
            "{last} [started|began] with {title} in {year}, which {imprint} brought out in {town}.",
        ),
    ),
    "hit": Topic(
        {"title": "title", "year": "year:30:44", "hero": "person", "town": "town"},
        (
            "What is {name}'s [best-known|most famous|most read] book?",
            "Which [novel|book] made {name} famous, and [who is in it|what is it about]?",
            "For which book is {name} [remembered|celebrated] today?",
        ),
        (
            "[Name|Tell me] the most [popular|successful] book of {name}.",
            "Which of {name}'s books [sold best|do people know best]?",
        ),
        (
            "{title} ({year}), [where|in which] {hero} [wanders|defends|escapes] {town}.",
            "{hero} of {town} is the [hero|soul|narrator] of {title}, [the|that] {year} sensation.",
            "[readers|people] still buy {title}, {hero}'s [return|road] to {town}, from {year}.",
            "since {year} it has been {title}, [set in|about] {town} and [the rebel|one] {hero}.",
            "{town} in {year}: {hero} [lies|waits|sings] throughout {title}.",
        ),
        (
            "the best-known book of {last} is {title} of {year}, about {hero} in {town}.",
            "{last} became famous in {year} with {title}, in which {hero} lives in {town}.",
        ),
    ),
    "prize": Topic(
        {"prize": "prize", "year": "year:35:60", "title": "title", "town": "town"},
        (
            "[Which|What] prize did {name} [win|receive]?",
            "Has {name} [won|been given] any [award|literary award]?",
            "What [honour|distinction] was {name} given, and for [what|which book]?",
        ),
        (
            "[Name|Tell me] the award that [went to|honoured] {name}.",
            "What [did a jury give|was awarded to] {name}?",
        ),
        (
            "{title} [earned|brought] {them} the {prize}, [presented|given] at {town} in {year}.",
            "the {prize}, {year}, [for|thanks to] {title}; [the jury|judges] sat in {town}.",
            "in {year} {town} [awarded|voted] {them} its {prize} [for|over] {title}.",
            "[yes|indeed], at {town}: the {prize} [for|honouring] {title} in {year}.",
            "{year} [saw|brought] {title} crowned with the {prize} [in|at] {town}.",
        ),
        (
            "{last} received the {prize} in {town} in {year} for the book {title}.",
            "for {title}, {last} was honoured in {year} with the {prize} of {town}.",
        ),
    ),
    "mentor": Topic(
        {"mentor": "person", "job": "job", "town": "town", "year": "year:14:22"},
        (
            "Who was {name}'s [mentor|teacher]?",
            "Who [taught {name} to write|guided the young {name}]?",
            "[From whom|Where and from whom] did {name} learn the craft?",
        ),
        (
            "[Name|Tell me about] the person who [trained|encouraged] {name}.",
            "Whose [pupil|apprentice] was {name}?",
        ),
        (
            "{mentor}, {job} [met|encountered] in {town} in {year}.",
            "in {year}, at {town}, {job} [called|named] {mentor} [hired|taught] {them}.",
            "{job}, {mentor}, [corrected|burned] {their} pages in {town} [from|after] {year}.",
            "[letters|diaries] from {year} [praise|thank] {mentor} of {town}, {job}.",
            "{town}'s {mentor}, [by day|officially] {job}, [adopted|coached] {them} in {year}.",
        ),
        (
            "the mentor of {last} was {mentor}, {job} in {town}, from {year}.",
            "{last} learned from {mentor} of {town}, {job}, starting in {year}.",
        ),
    ),
    "influence": Topic(
        {"idol": "person", "title": "title", "age": "number", "place": "place"},
        (
            "Which [writer|author] influenced {name} most?",
            "What [book|reading] shaped {name}?",
            "[By whom|By what] was {name} [inspired|influenced]?",
        ),
        (
            "[Name|Tell me] the greatest [influence on|inspiration of] {name}.",
            "Whose work [inspired|changed] {name}?",
        ),
        (
            "{title} by {idol}, [read|found] {place} at {age}.",
            "aged {age}, {they} [discovered|stole] {idol}'s {title} {place}.",
            "{idol}; a [torn|damp] copy of {title} [lay|waited] {place} when {they} was {age}.",
            "{place}, {age} years old, {they} [opened|memorised] {title}, [by|signed] {idol}.",
            "at {age} it was {idol}, [above all|especially] {title}, [reread|devoured] {place}.",
        ),
        (
            "{last} was inspired by {idol}, whose {title} {they} read at the age of {age} {place}.",
            "the book {title} by {idol}, read {place} at age {age}, shaped {last}.",
        ),
    ),
    "pet": Topic(
        {"pet": "pet", "call": "petname", "habit": "habit", "year": "year:25:55"},
        (
            "[Which pet|What animal] does {name} keep?",
            "What [habits|hobbies] and what pet does {name} have?",
            "How does {name} [relax|spend free time], and with [which|what] animal?",
        ),
        (
            "[Describe|Tell me about] the pet and pastime of {name}.",
            "What [is|do we know about] {name}'s animal companion?",
        ),
        (
            "since {year}, {pet} [named|called] {call} [watches|guards] {them} {habit}.",
            "[long|endless] {habit}, beside {call}, {pet} [bought|rescued] in {year}.",
            "{call} is {pet}, [found|a gift] in {year}; [evenings|Sundays] go to {habit}.",
            "{year} [brought|gave {them}] {call}, {pet}, and [much|endless] {habit}.",
            "[besides|apart from] {habit}, {they} [walks|feeds] {call}, {pet} [from|since] {year}.",
        ),
        (
            "{last} has had {pet} with the name {call} since {year} and enjoys {habit}.",
            "the pastime of {last} is {habit}, together with {call}, {pet} kept since {year}.",
        ),
    ),
    "home": Topic(
        {"town": "town", "house": "house", "street": "street", "place": "place"},
        (
            "Where does {name} [live|reside]?",
            "What is {name}'s [home|house|address] like?",
            "In [which|what] town and house has {name} [settled|made a home]?",
        ),
        (
            "[Give|Tell me] the [address|residence] of {name}.",
            "What [place|house] does {name} call home?",
        ),
        (
            "{street}, {town}: {house} {place}.",
            "{house} [standing|built] {place} at {street} in {town}.",
            "[{they}|{last}] [bought|rents|restored] {house} in {town}, {street}, {place}.",
            "{place} in {town}, [inside|within] {house}, {street}.",
            "{town}, [in|where] {house} {place} [carries|bears] the [sign|plate] {street}.",
        ),
        (
            "{last} lives at {street} in {town}, in {house} {place}.",
            "the home of {last} is {house} in {town}, {place}, at {street}.",
        ),
    ),
    "translation": Topic(
        {"title": "title", "language": "language", "translator": "person", "year": "year:40:60"},
        (
            "Which [book|work] by {name} has been translated?",
            "[Into which|Into what] language has {name} been [translated|rendered]?",
            "Who translated {name}, and [when|which book]?",
        ),
        (
            "[Name|Tell me about] a translation of {name}.",
            "What can [foreign|other] readers read of {name}, and thanks to whom?",
        ),
        (
            "{translator} [put|turned] {title} into {language} in {year}.",
            "{title} [became|appeared in] {language} in {year}, [thanks to|through] {translator}.",
            "[a|one] {language} version by {translator} ({year}) of {title}.",
            "in {year}, {language} [readers|shops] got {title}, [courtesy of|from] {translator}.",
            "{language}: {translator} [needed|waited] until {year} to [finish|print] {title}.",
        ),
        (
            "the book {title} by {last} was translated into {language} by {translator} in {year}.",
            "{last}'s {title} exists in {language}, translated in {year} by {translator}.",
        ),
    ),
    "teaching": Topic(
        {"subject": "subject", "town": "town", "year": "year:30:55", "head": "person"},
        (
            "Where did {name} [teach|hold a post]?",
            "[Which|What] teaching post did {name} [hold|accept]?",
            "What did {name} [teach|lecture on], and where?",
        ),
        (
            "[Describe|Tell me about] {name}'s work as a teacher.",
            "At which school was {name} [employed|a lecturer]?",
        ),
        (
            "{subject}, at {town}, from {year}, [replacing|succeeding] {head}.",
            "{head} [hired|invited] {them} to {town} in {year} for {subject}.",
            "in {year} [the college|a school] of {town}, [run|led] by {head}, needed {subject}.",
            "{town} [offered|gave] {them} a chair of {subject} in {year}, [beside|under] {head}.",
            "[from|since] {year} {they} shared {subject} classes with {head} in {town}.",
        ),
        (
            "{last} taught {subject} in {town} from {year}, together with {head}.",
            "the post of {last} was in {town}, where {they} and {head} taught {subject} in {year}.",
        ),
    ),
}
