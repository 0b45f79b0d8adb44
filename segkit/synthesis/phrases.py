"""What the speakers say: spoken-style sentences from a small grammar, without punctuation.

A conversation has one topic; a turn is an endless stream of words from which the script takes as
many as fit. Punctuation is left out because espeak-ng pauses at it, and pauses are the script's.

    >>> rng = np.random.default_rng(1)
    >>> " ".join(islice(talk(rng, "travel"), 8))
    'okay so you should really bring my mother'
"""

import re
from collections.abc import Iterator
from itertools import islice

import numpy as np

__all__ = ["BACKCHANNELS", "TOPICS", "islice", "talk"]

BACKCHANNELS = (
    "mm hmm", "uh huh", "yeah", "yeah yeah", "right", "okay", "oh okay", "i see", "oh really", "sure",
    "oh wow", "no way", "of course", "oh yeah", "wow", "oh no",
)  # fmt: skip
"""Ward & Tsukahara 2000 and Jurafsky et al. 1997 list these among the commonest of English."""

TOPICS: dict[str, dict[str, tuple[str, ...]]] = {
    "travel": {
        "thing": ("the hotel", "the train", "the museum", "the old harbour", "the mountain road",
                  "the airport", "the tour", "the little island", "the border", "the view from the tower"),
        "deed": ("drove along the coast", "missed the last ferry", "walked all over the old town",
                 "slept on the night train", "rented a tiny car", "got lost in the mountains"),
        "plan": ("go back in the spring", "see the north some day", "fly out on a monday",
                 "bring my mother along", "take the slow boat"),
    },
    "food": {
        "thing": ("the soup", "the bakery on the corner", "the new menu", "the bread", "the garden",
                  "the market", "that recipe", "the oven", "the lemon cake", "the whole dinner"),
        "deed": ("burned the onions", "made far too much rice", "tried to bake a cake",
                 "cooked for eleven people", "bought a huge bag of apples", "forgot the salt"),
        "plan": ("learn to make noodles", "grow my own tomatoes", "eat out less",
                 "try the place by the river", "open a small cafe"),
    },
    "work": {
        "thing": ("the meeting", "the new office", "the project", "my manager", "the budget", "the schedule",
                  "the other team", "the report", "that phone call", "the whole department"),
        "deed": ("moved the deadline again", "hired two more people", "lost the file somewhere",
                 "worked through the weekend", "changed the plan on a friday", "fixed the printer"),
        "plan": ("look for something closer to home", "ask for a day off", "finish it by june",
                 "start my own business", "move to the other team"),
    },
    "home": {
        "thing": ("the kitchen", "the roof", "the neighbours", "the dog", "the garden wall", "the heating",
                  "the new sofa", "the upstairs window", "our street", "the landlord"),
        "deed": ("painted the whole hallway", "found water in the cellar", "adopted a second dog",
                 "took down an old wall", "planted a cherry tree", "broke the front door key"),
        "plan": ("move somewhere with more light", "build a proper shed", "fix it all by summer",
                 "sell the big table", "get a cat as well"),
    },
    "sport": {
        "thing": ("the game", "the coach", "the second half", "the marathon", "my knee", "the swimming pool",
                  "the whole season", "our team", "the referee", "the bicycle"),
        "deed": ("ran ten miles in the rain", "lost by a single point", "climbed up to the cabin",
                 "joined a rowing club", "missed an easy goal", "trained every morning"),
        "plan": ("run the next one slower", "learn to ski", "buy a better pair of shoes",
                 "play again on sunday", "watch the final with you"),
    },
    "films": {
        "thing": ("the movie", "the ending", "the main actor", "the music", "that scene on the bridge",
                  "the book", "the second season", "the theatre", "the story", "the villain"),
        "deed": ("watched three in a row", "fell asleep in the middle", "read the book first",
                 "cried at the end", "met the director once", "laughed all the way home"),
        "plan": ("see it again with my brother", "read the other two", "write one myself",
                 "get tickets for the festival", "show it to the kids"),
    },
}  # fmt: skip

OPENINGS = ("well", "so", "yeah", "no", "i mean", "you know", "okay so", "right and", "oh", "actually",
            "yeah i mean", "to be honest", "the thing is", "and")  # fmt: skip
LINKS = ("and", "but", "so", "because", "and then", "and anyway", "which is why", "although", "i mean",
         "you know", "and of course", "but then again")  # fmt: skip
SENTENCES = (
    "{who} {deed} {when}",
    "{thing} was {much} {quality}",
    "i think {thing} is {quality}",
    "i never thought {thing} would be {much} {quality}",
    "{who} told me that {thing} was {quality}",
    "i would love to {plan}",
    "maybe we should {plan}",
    "{when} {who} {deed}",
    "we spent {span} on {thing}",
    "i was talking to {other} about {thing}",
    "{other} said {who} {deed}",
    "do you remember when {who} {deed}",
    "you should really {plan}",
    "it took {span} to get there",
    "nobody told me about {thing}",
    "{thing} reminds me of {other}",
    "i was {much} {feeling} about it",
    "what do you think about {thing}",
    "{who} wanted to {plan}",
    "it is {much} {quality} if you ask me",
    "{when} i was {much} {feeling}",
    "i keep thinking about {thing}",
    "{other} is {much} {feeling} these days",
    "have you seen {thing} lately",
)
SLOTS: dict[str, tuple[str, ...]] = {
    "who": ("we", "they", "my sister", "my uncle", "our neighbour", "the kids", "my old friend", "she", "he",
            "my roommate", "the two of us", "somebody"),
    "other": ("my father", "my cousin", "the woman next door", "my brother", "a friend of mine", "my aunt",
              "the man from the shop", "my daughter", "your sister"),
    "when": ("last summer", "on tuesday", "a couple of years ago", "this morning", "around christmas",
             "the other day", "every single weekend", "in the middle of the night", "right after lunch"),
    "span": ("a whole week", "most of the day", "nearly an hour", "about five minutes", "the entire evening",
             "three long months", "all of january"),
    "much": ("really", "so", "a little", "way too", "pretty", "surprisingly", "kind of", "almost", "very"),
    "quality": ("expensive", "beautiful", "small", "noisy", "good", "old", "strange", "slow", "easy", "cold",
                "wonderful", "complicated", "boring", "lovely", "crowded"),
    "feeling": ("happy", "worried", "tired", "nervous", "proud", "lucky", "angry", "hungry", "calm",
                "excited"),
}  # fmt: skip


def talk(rng: np.random.Generator, topic: str) -> Iterator[str]:
    """The words of a turn, without end: an opening, then sentences and links between them."""
    slots = SLOTS | TOPICS[topic]
    yield from _pick(rng, OPENINGS).split()
    while True:
        sentence = _pick(rng, SENTENCES)
        yield from re.sub(r"{(\w+)}", lambda m: _pick(rng, slots[m[1]]), sentence).split()
        yield from _pick(rng, LINKS).split()


def _pick(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[int(rng.integers(len(choices)))]
