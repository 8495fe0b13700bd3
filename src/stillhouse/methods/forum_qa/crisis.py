"""Words of someone who may be in danger, of themselves or of someone else; rather once too often than once too seldom.

A question in such words is answered with where to find help and never read; a post with them is neither released nor
quoted. A list of wordings misses those that nobody thought of: it is a net below the safety line, not a judgement of risk.
"""

from __future__ import annotations

import re

_SELF = r"(?:my|your|him|her|them|one|our)sel(?:f|ves)"
_THEIR = r"(?:my|your|his|her|their|the|a|our)"
_NOT = r"(?:do not|does not|did not|don'?t|doesn'?t|didn'?t|not|never|no longer)"
_KIN = (
    r"(?:mum|mom|mother|dad|father|parents?|family|wife|husband|partner|son|daughter|kids?|child(?:ren)?|baby|brother|sister|"
    r"neighbou?rs?|boss|girlfriend|boyfriend|gran|nan|friends?|doctor|nurse)"
)
_OTHERS = rf"(?:someone|somebody|everyone|everybody|anyone|people(?!')|him\b|her\b|them\b|{_THEIR} {_KIN})"
_PILLS = r"(?:pills|tablets|meds|medication|medicine|bottle|packet|pack|box|capsules|paracetamol|antidepressants)"

WORDINGS = {
    "its names": r"suicid\w*|self ?-?harm\w*|overdos\w*|od(?:ing|'?d)? on|kms|kys|unaliv\w*|sewer ?slide|noose|goodbye (?:letter|note)|final (?:letter|note)",
    "to end it": r"end(?:s|ed|ing)? (?:it(?: all| now| tonight|$|[.!?])|everything|things for good|(?:my|the|this) (?:pain|suffering|misery)|(?:\w+ )?(?:own )?li(?:fe|ves)\b)|(?:take|takes|taking|took) (?:my|your|his|her|their) (?:own )?li(?:fe|ves)\b|hate my life|want (?:it all to stop|out$)",
    "to die": r"(?:to|2|should|could|might|gonna|wanna|me|rather|must) die\b(?! (?:down|out|off|away|for))|(?:wish|rather|want|better off|happier if|if|be) (?:\w+ ){0,3}dead\b|ready to go for good|ways? (?:to|of) d(?:ie|ying)|bleed out|(?:drink\w*|drank) bleach|(?:buy|take|drink|swallow) poison",
    "not to live": rf"{_NOT} (?:\w+ )?(?:want|wanna|wish|feel like|care|deserve|plan)(?: to)? (?:live|living|be alive|being alive|wake up(?! \w)|wake up (?:any ?more|again|tomorrow)|waking up|exist|existing|be here|being here|go on|going on|be around)|"
    r"rather not (?:exist|live|be here|be alive|wake up)|never (?:to )?wake up|never been born|tired of (?:living|life|being alive|existing)|(?:giv\w+|gave) up on (?:life|living|everything|myself)|want\w* to (?:disappear|vanish|be gone)|disappear for ?ever|"
    r"live (?:like this )?any ?(?:more|longer)",
    "no point": r"(?:no|any|the|what'?s the|a|what is the) (?:reason|point|sense|purpose)s? (?:to|in|for|of) (?:\w+ )?(?:live|living|life|go on|going on|carry on|carrying on|being alive|existing|it all)|"
    r"(?:not|n'?t|never|hardly) (?:\w+ )?worth (?:living|going on|carrying on)|is life (?:even )?worth|(?:nothing|no one|nobody)(?: left)? to live for|(?:there(?:'s| is| was)|see) no way out|(?:see|find) a(?:ny)? way out|no hope left",
    "cannot go on": r"can(?:not|'?t) (?:\w+ )?(?:go on|carry on|(?:take|do|bear|stand|face) (?:it|this|life|living|another day)(?: all)?(?: any ?(?:more|longer)|$|[.!?])|live (?:like this|any))",
    "a burden": r"(?:better|happier)(?: off)? without (?:me|us|him|her)|(?:nobody|no ?-?one|who|anyone|anybody)(?: would|'d| will)?(?: even)? (?:miss|notice|care)\b.{0,12}\b(?:me\b|i (?:died|was|were|am|disappear))|burden (?:to|on|for) (?:every|my|them|others|people|him|her|you|all|the|us)",
    "to hurt oneself": rf"(?:hurt|harm|cut|burn|injur|stab|shoot|hang|drown|poison|strangl|starv|kill|gas)\w* {_SELF}|(?:cut|slit|slash|slic)\w* (?:my|his|her|their|your) (?:own )?(?:wrists?|arms?|throat|veins|legs?|thighs?)|kill me\b|"
    rf"(?:jump|throw|threw)(?:s|ed|ing)? (?:{_SELF} )?(?:off|under|in front|from (?:a|the))|walk\w* into (?:the )?traffic|(?:stood|stand\w*|was) on the (?:bridge|ledge|roof)|(?:about|going|ready|want\w*) to jump(?! the)|say\w* (?:my )?goodbyes?(?: to|$)|said my goodbyes",
    "too many tablets": rf"(?:swallow\w*|took|take[ns]?|taking|down(?:ed|ing)|ate) (?:\w+ ){{0,2}}(?:whole|entire|too many|all(?: of)? (?:my|the)|\d{{2,}}|handfuls?|dozens?|(?:box|bottle|pack|packet|strip))(?: of)? (?:\w+ ){{0,2}}{_PILLS}|"
    r"(?:lethal|fatal|deadly|painless)\b|would (?:it take to )?kill (?:me|you|someone|a person)|how (?:much|many) .{0,40}(?:to die|to kill|kills?)\b",
    "to hurt others": rf"(?:hurt|harm|kill|stab|strangl|shoot|poison|attack|sacrific|smother)(?:e|s|ing|ed)? {_OTHERS}|have a (?:gun|knife|rope|weapon)|threaten\w* (?:me|us|him|her|to (?:kill|hurt|stab))|(?:someone|he|she|they)(?:'s| is| are) going to (?:kill|hurt) ",
    "told to": r"(?:voices?|god|devil|demons?|he|she|they|it|something)\b.{0,25}\b(?:tell|tells|telling|told|say|says|saying|said|wants?|command\w*|order\w*)\b.{0,25}\b(?:kill|die|hurt|jump(?! the)|cut (?:my|him|her|them)|harm|burn|end (?:it|my)|sacrifice)",
}
CRISIS = re.compile("|".join(rf"\b(?:{wording})" for wording in WORDINGS.values()), re.IGNORECASE)
_LEET = str.maketrans({"1": "i", "0": "o", "3": "e", "@": "a", "$": "s", "!": "i"})


def is_crisis(text: str) -> bool:
    """Whether the words are those of someone who may be in danger."""
    plain = " ".join(text.replace("’", "'").split())
    read = plain.translate(_LEET)
    joined = re.sub(r"[*._\-]+(?=\w)", "", read)
    return any(CRISIS.search(form) for form in dict.fromkeys((plain, read, joined)))
