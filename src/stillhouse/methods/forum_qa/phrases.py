"""Words of the made-up forum: what people say of each aspect, how they put it, small talk, and personal data of no real person."""

from __future__ import annotations

# Verb phrases in their first form; "my" and "me" follow the subject. Hard days first, good days behind the bar.
VERB_PHRASES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "sleep": (
        (
            "lie awake until {hour} staring at the ceiling",
            "wake up {count} times a night drenched in sweat",
            "sleep {long} hours and still feel wrecked",
            "get by on {few} hours of broken sleep",
            "keep the lights on and doze in the armchair",
            "pace the landing until it gets light",
            "can't drop off without the radio on",
            "dread going to bed at all",
        ),
        (
            "sleep like a log",
            "drop off within {count} minutes",
            "get a solid {long} hours",
            "get up at {early} fully rested",
            "fall asleep anywhere, even on {transport}",
        ),
    ),
    "work": (
        (
            "call in sick {count} days a week",
            "hide in the {room} whenever the phone rings",
            "can't follow what the {boss} says in meetings",
            "lose every job after {count} months",
            "make so many mistakes at the till",
            "only manage {few} hours before coming home in tears",
            "think the whole team is talking about me",
            "have been signed off since the {event}",
        ),
        (
            "run a team of {long} people without a hitch",
            "enjoy every shift at the {workplace}",
            "stay late just for fun",
            "do full-time hours at the {workplace}",
            "get promoted {few} times in a row",
        ),
    ),
    "family": (
        (
            "snap at everyone over the smallest thing",
            "eat upstairs so nobody can watch me",
            "think my parents are reading my mind",
            "leave the table as soon as there is laughter",
            "miss every birthday of my {relative}",
            "can't bear to be hugged any more",
            "only speak to my {relative} through the door",
            "argue with my {relative} about the pills",
        ),
        (
            "have Sunday lunch with all of them",
            "ring my {relative} every evening",
            "look after the little ones at weekends",
            "go camping with my {relative} each summer",
            "laugh with my {relative} about old photos",
        ),
    ),
    "friends": (
        (
            "leave messages unanswered for {few} weeks",
            "cancel at the last minute every single time",
            "have cut off all but {few} people",
            "pretend to be out when the doorbell rings",
            "suspect they only invite me out of pity",
            "can't sit in a pub without checking the exits",
            "go quiet as soon as a third person joins",
            "spend {day} nights alone with the cat",
        ),
        (
            "host a games night every {day}",
            "meet {few} mates for a curry each week",
            "be the one who organises all the trips",
            "chat for hours about nothing",
            "go dancing until closing time",
        ),
    ),
    "concentration": (
        (
            "read the same line {count} times over",
            "lose the thread halfway through a sentence",
            "can't sit through {few} minutes of a film",
            "forget why I walked into the {room}",
            "drift off while the teacher is talking",
            "need every instruction written down",
            "leave the pan on and walk away",
            "get lost in the plot of any story",
        ),
        (
            "get through {few} novels a week",
            "do crosswords for {count} hours straight",
            "learn whole poems by heart",
            "finish a sudoku in {count} minutes",
            "follow lectures without taking a note",
        ),
    ),
    "eating": (
        (
            "live on toast and {snack}",
            "skip lunch because the tins look tampered with",
            "raid the fridge at {hour}",
            "have put on {long} kilos since the {event}",
            "can't swallow anything cooked by others",
            "throw away whatever was left unwatched",
            "eat {snack} out of the packet for days",
            "forget meals until the shaking starts",
        ),
        (
            "cook a proper stew every {day}",
            "eat {few} good meals a day",
            "bake bread with the neighbours",
            "enjoy a fry-up on {day}",
            "try every new recipe in the paper",
        ),
    ),
    "housework": (
        (
            "wear the same hoodie for {count} days",
            "let the dishes pile up for {few} weeks",
            "go {count} days without a shower",
            "can't open the cupboard under the sink",
            "start tidying and freeze halfway",
            "sleep on a bare mattress since the {event}",
            "keep the bins inside so no one goes through them",
            "brush my teeth once a week at best",
        ),
        (
            "scrub the kitchen every {day}",
            "iron all my shirts",
            "keep the place spotless",
            "do a big wash on {day}",
            "hoover the stairs before breakfast",
        ),
    ),
    "going out": (
        (
            "walk to the shop at {hour} when it is empty",
            "get off the {transport} after {few} stops",
            "haven't left the building since the {event}",
            "wear a hood and sunglasses everywhere",
            "need {relative} beside me in any queue",
            "turn back at the gate {count} times",
            "order everything online",
            "cross the road when anyone looks at me",
        ),
        (
            "cycle {long} miles along the river",
            "take the {transport} into town alone",
            "stroll round the market on {day}",
            "go to gigs with thousands of people",
            "drive to the coast on a whim",
        ),
    ),
    "money": (
        (
            "leave the envelopes unopened in a drawer",
            "have blown {amount} on scratch cards",
            "give cash to strangers because the signs say so",
            "owe the landlord {few} months",
            "can't face the forms for the allowance",
            "hand the bank card to my {relative}",
            "buy {few} of everything just in case",
            "live off {amount} a week",
        ),
        (
            "put {amount} aside every month",
            "keep a neat list of every penny",
            "pay all of it on the first",
            "save up for a trip to the lakes",
            "lend {amount} to half the street",
        ),
    ),
    "hobbies": (
        (
            "sell the {instrument} because it sounded accusing",
            "look at the paints and feel nothing",
            "scroll through the same {few} videos all day",
            "can't hold the needles steady",
            "give up every game after {count} minutes",
            "let the allotment go to weeds",
            "sit on the floor and do nothing at all",
            "hear messages in each song",
        ),
        (
            "play the {instrument} for {few} hours a day",
            "paint landscapes in the shed",
            "grow tomatoes on the balcony",
            "swim {count} lengths before work",
            "play five-a-side on {day}",
        ),
    ),
}
# Noun phrases, whoever they are about.
NOUN_PHRASES: dict[str, tuple[str, ...]] = {
    "medication": (
        "{mg} mg of {drug}", "{drug} at night", "a monthly {drug} injection", "{drug} twice a day", "a low dose of {drug}",
        "{drug} together with {drug}", "{mg} milligrams of {drug} in the morning",
    ),
    "side effects": (
        "a tremor in both hands", "{long} kilos of extra weight", "a dry mouth and blurry eyes", "constant drowsiness", "restless legs all night",
        "drooling on the pillow", "a jaw that won't keep still", "dizziness on the stairs", "a heart that races after {few} steps", "hair coming out in clumps",
    ),
    "triggers": (
        "crowded {transport} rides", "the news at {early}", "any argument with {relative}", "flickering lights in the {room}", "more than {few} coffees",
        "strangers laughing behind me", "missed sleep", "the smell of bleach", "letters in brown envelopes", "being filmed on a phone", "the run-up to {day} meetings",
    ),
    "coping": (
        "headphones and a {instrument} playlist", "cold water on the wrists", "counting {count} blue things", "a walk with the neighbour's spaniel",
        "calling {relative} {name}", "writing it all down at {hour}", "a weighted blanket", "the {day} hearing-voices group", "knitting squares", "saying the alphabet backwards",
        "naming {few} things on the shelf",
    ),
    "onset": (
        "in the {nth} year of college", "the week after the {event}", "at a festival one summer", "about {few} years ago", "when the baby was {count} weeks old",
        "halfway through an apprenticeship", "on a night shift at the {workplace}", "shortly after the move to {place}", "during the exams", "the winter after the {event}",
    ),
}  # fmt: skip
FRAMES: dict[str, tuple[str, ...]] = {
    "now": (
        "{lately} I {answer}.", "{lately} I {answer}, {comment}.", "Because of the {symptom} I {answer}.", "Since the {event} I {answer}, {comment}.",
        "To be honest I {answer} these days.", "It sounds silly but I {answer} now.", "With the {symptom} as loud as it is, I {answer}.", "I {answer} at the moment, {comment}.",
        "Everyone else seems fine while I {answer}.", "These days? I {answer} {emoji}",
    ),
    "before": (
        "{earlier} I {answer}.", "{earlier} I {answer}, {comment}.", "Years ago, when I was well, I {answer}.", "I remember how I {answer} {backthen}.",
        "You wouldn't think that I {answer} {backthen}.", "The old me {answer}, {comment}.",
    ),
    "other": (
        "My {kin} {name}, who has the same diagnosis, {answer}.", "My {kin} {answer}.", "My {kin} {answer}, {comment}.", "Meanwhile my {kin} {answer}.",
        "It is different for my {kin}, who {answer}.", "My {kin} says living with it means you cope, and {answer}.",
    ),
}  # fmt: skip
NOUN_FRAMES: dict[str, dict[str, tuple[str, ...]]] = {
    "medication": {
        "now": ("I'm on {answer} now.", "{lately} I take {answer}, {comment}.", "They have put me on {answer}.", "My current script is {answer}.", "At the moment it's {answer} for me."),
        "before": ("They first tried {answer}, {comment}.", "Until the {event} I was on {answer}.", "I used to take {answer}.", "{earlier} it was {answer}."),
        "other": ("My {kin} is on {answer}.", "My {kin} {name} takes {answer}.", "For my {kin} they chose {answer}, {comment}."),
    },
    "side effects": {
        "now": ("The tablets give me {answer}.", "What bothers me most is {answer}, {comment}.", "I've ended up with {answer}.", "No one warned me about {answer} {emoji}"),
        "before": ("The old tablets gave me {answer}.", "With the last lot I had {answer}.", "{earlier} the worst was {answer}, {comment}."),
        "other": ("My {kin} got {answer} from the tablets.", "For my {kin} the price is {answer}.", "My {kin} {name} puts up with {answer}."),
    },
    "triggers": {
        "now": ("The {symptom} always kicks off with {answer}.", "{lately} it's {answer} that makes the {symptom} worse.", "I've learned that {answer} will bring it on.", "Nothing wakes the {symptom} like {answer}, {comment}."),
        "before": ("In the beginning it was {answer} that brought it on.", "{earlier} {answer} used to set me off.", "Back at the start {answer} would do it, {comment}."),
        "other": ("For my {kin} the trigger is {answer}.", "My {kin} can't cope with {answer}, it starts everything off.", "My {kin} {name} goes downhill after {answer}."),
    },
    "coping": {
        "now": ("What gets me through is {answer}.", "{lately} {answer} takes the edge off.", "The only thing that works for me is {answer}.", "My keyworker suggested {answer}, and it works.", "I calm down with {answer}, {comment}."),
        "before": ("At the start it was {answer} that got me through.", "{earlier} {answer} used to do the trick.", "I used to rely on {answer}, {comment}."),
        "other": ("My {kin} swears by {answer}.", "For my {kin} it's {answer} that works.", "My {kin} {name} settles with {answer}."),
    },
    "onset": {
        "now": ("It all started {answer}.", "I fell ill {answer}, {comment}.", "The {symptom} began {answer}.", "My own story begins {answer}."),
        "before": ("Looking back, the first odd signs came {answer}.", "Something was off already {answer}.", "The early hints were there {answer}, {comment}."),
        "other": ("For my {kin} it began {answer}.", "My {kin} fell ill {answer}.", "My {kin} {name} had the first episode {answer}."),
    },
}  # fmt: skip
SMALL_TALK = (
    "Sorry for the long post.", "Thanks for reading this far.", "Does anyone else get this?", "I don't really know how to put it.", "Hugs to all of you {emoji}",
    "It has been a rough week.", "Not looking for advice, just venting.", "The weather isn't helping either.", "My appointment got moved again.", "Reading this forum makes me feel less alone.",
    "I hope tomorrow is kinder.", "Someone here said you should just {advice}, as if it were that easy.", "The leaflet says to {advice}.", "My doctor thinks I ought to {advice}.",
    "People keep telling me to {advice}.", "Anyway, that is where I am.", "It's a strange illness.", "The café was nice though.", "I bought new curtains, naïve of me.", "So yeah, that's me.",
    "The {symptom} came up in group too.", "Nobody tells you this when you get diagnosed.", "Still, small steps {emoji}", "I read somewhere that schizophrenia is different for everyone.",
)  # fmt: skip
PERSONAL = (
    "My name is {name}, by the way.", "I'm {age} and have been ill for a while.", "I live in {place} with two cats.", "You can reach me at {email} if you want to talk.", "My number is {phone}, text me.",
    "I wrote about it on {url} once.", "@{member} said the same thing.", "Thanks {member}, that helped a lot.", "My appointment is on {date}.", "It got worse on {date}.", "Dr {surname} listened for once.",
    "My friend {name} drove me there.", "We moved from {place} to {place} last spring.", "{name} says I should post here more.", "My sister {name} made me sign up.", "The clinic in {place} has a waiting list.",
    "Nurse {surname} is lovely.", "I was in hospital in {place} until {date}.", "Add me, I'm {handle} on there.", "Call me {name}.", "My postcode is {postcode}, so the clinic is miles away.", "As a {age} year old I feel too young for this.",
    "Met {name} {surname} at the group, great person.", "I come from {place} and miss it.",
)  # fmt: skip
OFF_TOPIC = (
    "Has anyone seen the match last night?", "My parcel is three days late and the courier blames the rain.", "What laptop would you buy for under {amount}?", "The new cafeteria tea is weak.",
    "Happy birthday {member}!", "I found a recipe for lentil soup that needs no blender.", "Which series should I watch next?", "The forum search is broken again on my tablet.", "I painted the fence green and regret it.",
)  # fmt: skip
DANGER = (
    "I can't go on like this and I want to die.", "The voices tell me to jump and I am scared I will.", "There is no way out, they would be better off without me.",
    "I have been cutting myself again.", "I wrote a goodbye letter last night.", "I keep thinking of ending it all.", "I am afraid that I will hurt my brother.",
)  # fmt: skip
"""Posts that must be neither released nor read."""
ADVICE = (
    "sleep eight hours", "go for a run every day", "eat more greens", "call a friend each evening", "write a list of chores", "take the bus one stop further", "read ten pages a day", "keep a budget", "pick up an old hobby", "drink less coffee",
)  # fmt: skip
SLOTS: dict[str, tuple[str, ...]] = {
    "hour": ("2am", "3am", "four in the morning", "half past one", "the small hours", "5am"),
    "early": ("six", "seven sharp", "half past six", "dawn", "six thirty"),
    "count": ("three", "four", "five", "ten", "twenty", "a dozen", "six", "thirty"),
    "few": ("two", "three", "four", "a couple of", "five"),
    "long": ("eight", "nine", "ten", "twelve", "fourteen", "fifteen"),
    "day": ("Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Thursday"),
    "room": ("storeroom", "hallway", "bathroom", "kitchen", "garage", "lift"),
    "boss": ("supervisor", "foreman", "head chef", "shift lead"),
    "workplace": ("bakery", "warehouse", "library", "call centre", "nursery", "garden centre", "depot"),
    "transport": ("bus", "tram", "train", "night bus", "ferry"),
    "relative": ("mum", "dad", "gran", "uncle", "aunt", "stepdad", "cousins"),
    "snack": ("crisps", "cold beans", "cereal", "biscuits", "instant noodles", "raisins"),
    "event": ("last relapse", "move", "funeral", "divorce", "second lockdown", "new tablets", "hospital stay", "accident"),
    "amount": ("forty quid", "£60", "two hundred", "$300", "ninety pounds", "a fiver"),
    "instrument": ("guitar", "piano", "cello", "clarinet", "drum kit", "ukulele"),
    "nth": ("first", "second", "third", "final"),
    "symptom": ("voices", "paranoia", "delusions", "hallucinations", "intrusive thoughts", "panic", "negative symptoms"),
    "lately": ("Lately", "Most days", "These days", "Right now", "For the past month", "At present", "Since winter"),
    "earlier": ("Before all this", "Before I got ill", "In my old life", "Back then", "Before the diagnosis", "As a student"),
    "backthen": ("back then", "before it all began", "in the good years", "when I was well"),
    "comment": (
        "which drives everyone mad", "and it wears me out", "if that makes sense", "no idea why", "believe it or not", "which I hate", "and I can't explain it", "so there's that", "much to my surprise", "for what it's worth",
    ),
    "kin": ("brother", "sister", "mum", "dad", "cousin", "flatmate", "best friend", "husband", "wife", "uncle", "neighbour"),
    "emoji": ("😔", "🙃", "👍🏽", "❤️", "😅", "🤷🏻‍♀️", "🇨🇦", "...", "lol", "tbh"),
    "drug": ("olanzapine", "Clozapine", "risperidone", "Abilify", "quetiapine", "Haldol", "paliperidone", "Latuda", "amisulpride", "Seroquel"),
    "mg": ("5", "10", "15", "200", "300", "2.5", "400"),
    "advice": ADVICE,
}  # fmt: skip
# Of no real person. Some are words as well (Rose, Will, Hope, Mark, Reading, Bath), the hard case.
FIRST_NAMES = (
    "Priya", "Hannah", "Tomasz", "Aoife", "Rose", "Will", "Hope", "Mark", "Leila", "Kwame", "Siobhan", "Mateus", "Yuki", "Grace", "Olga", "Darnell",
    "Imani", "Björn", "Chloé", "Ravi", "Fatima", "Ezra", "Summer", "Dylan", "Nadia", "Tobias", "Mei", "Joy", "Callum", "Esther", "Zanele", "Kofi",
    "Ingrid", "Pablo", "Anouk", "Jasper", "Faith", "Rohan", "Miriam", "Declan", "Saoirse", "Amara", "Felix", "Daisy", "Viktor", "Lucía",
)  # fmt: skip
SURNAMES = (
    "Okafor", "Lindqvist", "Baptiste", "Murray", "Novak", "Hughes", "Petrova", "Tanaka", "O'Connor", "McBride", "Achterberg", "Singh", "Adeyemi",
    "Castillo", "Young", "Baker", "Kowalski", "Fraser",
)  # fmt: skip
PLACES = (
    "Leeds", "Ohio", "Galway", "Reading", "Bath", "Rotterdam", "Milton Keynes", "Perth", "Saskatoon", "Hull", "Portland", "Cork", "Dundee", "Tulsa",
    "Hamilton", "New Brunswick", "Aarhus", "Wigan", "Toulouse", "Swindon",
)  # fmt: skip
