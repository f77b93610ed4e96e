"""Lets the embedded generator write plain text for the student's pre-training: JSON Lines of {"text": ...}.

    python recipes/student/write_text.py generated.jsonl --count 4000

Each request asks for one form (a news item, a question, a review ...) about one subject. Both lists are broad
and belong to no task; nothing here knows labels. Rows are appended, and a second call goes on where the first
one stopped.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
from pathlib import Path

from gold_lightning.generators import EmbeddedGenerator, Request

FORMS = {
    "the first sentences of a newspaper report": "Council backs new bridge. The plan, which will cost 40 million, "
    "was approved on Tuesday after two years of debate.",
    "a sentence from an encyclopedia": "The lynx is a wild cat with tufted ears that lives in the forests of Europe, "
    "Asia and North America.",
    "a question that somebody asks": "How long does it take to learn the violin well enough to play in an orchestra?",
    "a customer's opinion": "I bought these boots for a walk along the coast and they kept my feet dry all week.",
    "a sentence from a textbook": "When the temperature of a gas rises at constant volume, its pressure rises too.",
    "two sentences of a conversation": "Did you lock the back door? I thought that you had the keys with you.",
    "a short piece of advice": "Write down what you spend for a month before you make a budget.",
    "a headline": "Farmers hope for rain as reservoirs run low",
}
SUBJECTS = (
    "elections, a war, a treaty, refugees, a protest, a court case, police, a flood, an earthquake, a president, a "
    "border, an embassy, a hostage, a bombing, a parliament, human rights, a famine, a king, the army, a rebel "
    "group, football, tennis, golf, a marathon, cricket, basketball, baseball, a coach, an injury, a world record, "
    "swimming, ice hockey, a boxing match, the Olympics, a cycling race, a league table, rugby, a goalkeeper, "
    "skiing, chess, oil prices, a merger, profits, shares, interest rates, a bank, unemployment, wages, a factory, "
    "a strike, taxes, an airline, a supermarket, inflation, exports, a currency, a bankruptcy, house prices, "
    "insurance, advertising, a space probe, a computer chip, software, the internet, a virus, a telescope, a "
    "vaccine, genes, a robot, a battery, a mobile phone, a search engine, a video game, climate change, a fossil, a "
    "comet, a laboratory, an operating system, a password, a satellite, a hospital, a diet, sleep, a dentist, a "
    "school, an exam, a university, a teacher, a library, a novel, a film, an actor, a song, an opera, a painting, "
    "a museum, fashion, a wedding, a funeral, a birthday, a recipe, bread, coffee, wine, a restaurant, a garden, "
    "trees, birds, a dog, a horse, insects, whales, a river, the weather, snow, a volcano, the desert, an island, a "
    "train, a bicycle, traffic, a bridge, a ship, a hotel, a holiday, a map, money, a lottery, a theft, a prison, a "
    "judge, a contract, a letter, a neighbour, a family, children, a doctor, old age, religion, a church, "
    "philosophy, history, ancient Rome, an empire, a revolution, slavery, a philosopher, mathematics, numbers, "
    "geometry, a proof, physics, chemistry, a cell, the brain, the heart, language, a dictionary, a poem, a rumour, "
    "friendship, anger, a dream, luck, work, a meeting, a boss, a shop, shoes, a camera, a clock, furniture, a "
    "kitchen, cleaning, electricity, water, a fire, glass, gold, steel, cotton"
).split(", ")


def request(number: int) -> Request:
    """The request of this number, always the same."""
    luck = random.Random(number)
    form, example = luck.choice(list(FORMS.items()))
    return Request(
        system="You write short, clear English texts.",
        shared=f"Write {form}.\n\nsubject: something else\ntext: {example}\n\n",
        own=f"subject: {luck.choice(SUBJECTS)}",
        answer="text:",
        seed=number,
        max_tokens=64,
        stop=("\n",),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--batch-size", type=int, default=256)
    args = parser.parse_args()
    begun = sum(1 for _ in args.out.open(encoding="utf-8")) if args.out.exists() else 0
    generator = EmbeddedGenerator(batch_size=args.batch_size)
    with args.out.open("a", encoding="utf-8") as file:
        for start in range(begun, args.count, args.batch_size):
            numbers = range(start, min(start + args.batch_size, args.count))
            # Neighbours share a prompt, which is then computed once; rows are written in their own order.
            order = sorted(numbers, key=lambda n: request(n).shared)
            written = dict(zip(order, generator.generate([request(n) for n in order]), strict=True))
            rows = [{"id": n, "text": written[n].text.strip(), "finish": written[n].finish} for n in numbers]
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            file.flush()
            texts = list(itertools.islice((r["text"] for r in rows), 2))
            print(f"{numbers.stop} of {args.count}: {texts}", flush=True)


if __name__ == "__main__":
    main()
