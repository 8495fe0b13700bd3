"""What the data set is about: aspects of daily life with the words that give them away and the questions asked of them.

Every question has a subject: how it is now, how it was before the illness, or how it is for someone else that the post
speaks of. A post that tells of one and not of the other is what makes a question unanswerable and a reader read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stillhouse.corpus.cleaning import words

Subject = Literal["now", "before", "other"]
SUBJECTS: tuple[Subject, ...] = ("now", "before", "other")


@dataclass(frozen=True)
class Aspect:
    """One thing that is asked about."""

    name: str
    lexicon: frozenset[str]
    """Words that posts on it use."""
    now: tuple[str, ...]
    before: tuple[str, ...]
    other: tuple[str, ...]
    """Questions; {kin} is the other person."""

    def questions(self, subject: Subject) -> tuple[str, ...]:
        """The wordings of a question about this subject."""
        return {"now": self.now, "before": self.before, "other": self.other}[subject]


def _aspect(name: str, lexicon: str, now: str, before: str, other: str) -> Aspect:
    split = (tuple(q.strip() for q in text.split("|")) for text in (now, before, other))
    return Aspect(name, frozenset(lexicon.split()), *split)


ASPECTS: tuple[Aspect, ...] = (
    _aspect(
        "sleep",
        "sleep sleeping slept asleep awake bed night nights insomnia nap naps dream dreams dozing alarm alarms wake nightmares 3am 4am",
        "How does it affect sleep? | How is the writer sleeping now? | What are the writer's nights like these days? | What does the illness do to the writer's sleep?",
        "How did the writer sleep before the illness? | What were nights like before it began? | What was the writer's sleep like when well?",
        "How does the writer's {kin} sleep? | What are the nights of the writer's {kin} like? | What is said of the {kin}'s sleep?",
    ),
    _aspect(
        "work",
        "work job shift shifts boss office career colleagues employed unemployed hired fired deadline deadlines manager coworkers warehouse",
        "How does it affect work? | How does the writer cope with work now? | What does the illness mean for the writer's job? | What happens at work these days?",
        "How did the writer do at work before the illness? | What was work like before it began? | How did the job go when the writer was well?",
        "How does the writer's {kin} manage work? | What is said of the {kin}'s job? | How does work go for the writer's {kin}?",
    ),
    _aspect(
        "family",
        "family mum mom dad parents sister brother relatives kids children dinner home visits grandparents household",
        "How does it affect family life? | How does the writer get on with the family now? | What has changed with the writer's relatives? | How are things at home these days?",
        "How did the writer get on with the family before the illness? | What was family life like before it began? | How were things with relatives when the writer was well?",
        "How does the writer's {kin} get on with the family? | What is said of the {kin} and family? | How are things at home for the writer's {kin}?",
    ),
    _aspect(
        "friends",
        "friends friend friendship social mates party parties lonely invitations texts calls messages group pub meetups",
        "How does it affect friendships? | What does the writer do about friends now? | How is the writer's social life these days? | What has the illness done to friendships?",
        "How was the writer with friends before the illness? | What was social life like before it began? | How did the writer treat friends when well?",
        "How does the writer's {kin} keep up with friends? | What is said of the {kin}'s social life? | How does the writer's {kin} deal with friends?",
    ),
    _aspect(
        "concentration",
        "concentrate concentration focus read reading book books page pages remember memory forget attention thoughts film films paragraph",
        "How does it affect concentration? | How well can the writer focus now? | What happens when the writer tries to concentrate? | How is the writer's attention these days?",
        "How well did the writer concentrate before the illness? | What was focus like before it began? | How was attention when the writer was well?",
        "How well does the writer's {kin} concentrate? | What is said of the {kin}'s focus? | How is attention for the writer's {kin}?",
    ),
    _aspect(
        "eating",
        "eat eating appetite food meals meal weight cook cooking breakfast lunch hungry kitchen snacks kilos takeaway",
        "How does it affect eating? | What does the writer do about meals now? | How is the writer's appetite these days? | What has the illness done to eating?",
        "How did the writer eat before the illness? | What were meals like before it began? | What was the writer's appetite like when well?",
        "How does the writer's {kin} eat? | What is said of the {kin}'s appetite? | How do meals go for the writer's {kin}?",
    ),
    _aspect(
        "housework",
        "dishes laundry clean cleaning tidy chores washing shower hygiene dust bins clothes flat room vacuum teeth",
        "How does it affect chores and washing? | How does the writer keep up with housework now? | What happens to chores these days? | How does the writer manage cleaning?",
        "How did the writer manage chores before the illness? | What was housework like before it began? | How did cleaning go when the writer was well?",
        "How does the writer's {kin} manage chores? | What is said of the {kin}'s housework? | How does cleaning go for the writer's {kin}?",
    ),
    _aspect(
        "going out",
        "outside bus buses train shop shops supermarket crowd crowds street leave house park queue town travel drive walk",
        "How does it affect going out? | What does the writer do about leaving the house now? | How are trips outside these days? | What has the illness done to going out?",
        "How did the writer go out before the illness? | What were trips outside like before it began? | How was leaving the house when the writer was well?",
        "How does the writer's {kin} go out? | What is said of the {kin} leaving the house? | How are trips outside for the writer's {kin}?",
    ),
    _aspect(
        "money",
        "money bills rent debt benefits savings spend spending budget card bank afford pay wages letters",
        "How does it affect money? | How does the writer handle money now? | What happens to the bills these days? | What has the illness done to the writer's finances?",
        "How did the writer handle money before the illness? | What were finances like before it began? | How did bills go when the writer was well?",
        "How does the writer's {kin} handle money? | What is said of the {kin}'s finances? | How do bills go for the writer's {kin}?",
    ),
    _aspect(
        "hobbies",
        "music guitar paint painting drawing games gaming garden gardening knitting football hobby hobbies piano swimming chess photography",
        "How does it affect hobbies? | What does the writer do for pleasure now? | What has become of the writer's hobbies? | How does the writer spend free time these days?",
        "What did the writer do for pleasure before the illness? | What were hobbies like before it began? | How did free time go when the writer was well?",
        "What does the writer's {kin} do for pleasure? | What is said of the {kin}'s hobbies? | How does the writer's {kin} spend free time?",
    ),
    _aspect(
        "medication",
        "medication meds tablets pills dose mg injection depot prescribed antipsychotic clozapine olanzapine risperidone quetiapine aripiprazole haloperidol paliperidone lurasidone",
        "What medicine does the writer take? | Which drug is the writer on now? | What is the writer prescribed at the moment? | What are the writer's meds?",
        "What medicine did the writer take before? | Which drug was the writer on earlier? | What had been prescribed first?",
        "What medicine does the writer's {kin} take? | Which drug is the writer's {kin} on? | What is the {kin} prescribed?",
    ),
    _aspect(
        "side effects",
        "side effect effects tremor drowsy gain restless dizzy mouth shaking heavy stiff drool tired nausea",
        "What side effects does the writer have? | What does the medicine do to the writer's body? | Which side effect bothers the writer now? | What has the medicine brought with it?",
        "What side effects did the writer have before? | Which side effect came with the earlier medicine? | What did the old tablets do to the writer?",
        "What side effects does the writer's {kin} have? | What does the medicine do to the {kin}? | Which side effect bothers the writer's {kin}?",
    ),
    _aspect(
        "triggers",
        "trigger triggers voices paranoia panic delusions hallucinations worse sets off stress anxious episode",
        "What sets it off? | What makes the symptoms worse now? | What triggers the writer? | What brings on the symptoms these days?",
        "What used to set it off? | What made the symptoms worse in the beginning? | What triggered the writer earlier?",
        "What sets it off for the writer's {kin}? | What triggers the {kin}? | What makes things worse for the writer's {kin}?",
    ),
    _aspect(
        "coping",
        "helps help coping cope calm calms distract headphones breathing grounding routine therapy support settle",
        "What helps the writer? | How does the writer cope now? | What brings relief these days? | What calms the writer down?",
        "What used to help the writer? | How did the writer cope in the beginning? | What brought relief earlier?",
        "What helps the writer's {kin}? | How does the {kin} cope? | What brings relief to the writer's {kin}?",
    ),
    _aspect(
        "onset",
        "started began first diagnosed diagnosis onset teens college hospital breakdown episode years",
        "When did it start? | When did the illness begin for the writer? | At what point did it begin? | Since when has the writer been ill?",
        "When did the very first signs show? | When did something first seem off? | What was the time of the early signs?",
        "When did it start for the writer's {kin}? | When did the {kin} fall ill? | At what point did it begin for the writer's {kin}?",
    ),
)
BY_NAME = {aspect.name: aspect for aspect in ASPECTS}
SYMPTOMS = frozenset(
    [
        "schizophrenia",
        "schizoaffective",
        "psychosis",
        "psychotic",
        "voices",
        "hallucinations",
        "hallucinating",
        "delusions",
        "delusional",
        "paranoia",
        "paranoid",
        "hearing",
        "illness",
        "symptoms",
        "diagnosis",
        "diagnosed",
        "episode",
        "relapse",
        "meds",
        "medication",
        "antipsychotic",
        "antipsychotics",
        "anxiety",
        "anxious",
        "panic",
        "negative",
        "motivation",
        "intrusive",
        "thoughts",
        "disorganised",
        "unwell",
        "breakdown",
    ]
)
MEDICINES = frozenset(
    [
        "clozapine",
        "clozaril",
        "olanzapine",
        "zyprexa",
        "risperidone",
        "risperdal",
        "quetiapine",
        "seroquel",
        "aripiprazole",
        "abilify",
        "haloperidol",
        "haldol",
        "paliperidone",
        "invega",
        "lurasidone",
        "latuda",
        "ziprasidone",
        "amisulpride",
        "cariprazine",
        "vraylar",
        "brexpiprazole",
        "rexulti",
        "lithium",
        "sertraline",
        "zoloft",
        "prozac",
        "fluoxetine",
        "lorazepam",
        "ativan",
        "valproate",
        "depakote",
        "benztropine",
        "cogentin",
        "procyclidine",
        "metformin",
        "mirtazapine",
        "cbt",
        "nhs",
        "adhd",
        "ptsd",
        "ocd",
    ]
)


def aspects_of(text: str, least: int = 1) -> list[Aspect]:
    """The aspects that a post speaks of, by its words, most words first."""
    used = set(words(text))
    counts = {aspect.name: len(aspect.lexicon & used) for aspect in ASPECTS}
    named = [aspect for aspect in ASPECTS if counts[aspect.name] >= least]
    return sorted(named, key=lambda aspect: -counts[aspect.name])


def is_relevant(text: str) -> bool:
    """Whether a post names a symptom or an aspect of daily life with two words or more."""
    used = set(words(text))
    return bool(used & (SYMPTOMS | MEDICINES)) or bool(aspects_of(text, 2))
