"""Lets the embedded generator write plain text for the student's pre-training: JSON Lines of {"text": ...}.

    python recipes/student/write_text.py generated.jsonl --count 4608
    python recipes/student/write_text.py generated.jsonl --count 400000 --batch-size 6144   # on a GPU

Each request asks for one form (a news report, a question, a review ...) about one subject, in half of the cases at one
place. The lists are broad and belong to no task; nothing here knows labels. Rows are appended, and a second call goes
on where the first one stopped: a batch is a function of its number, on the same machine.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from gold_lightning.generators.embedded import embedded_folder
from transformers import AutoModelForCausalLM, AutoTokenizer

FORMS = yaml.safe_load((Path(__file__).parent / "forms.yaml").read_text(encoding="utf-8"))
SUBJECTS = (
    "elections, a war, a treaty, refugees, a protest, a court case, police, a flood, an earthquake, a president, a "
    "border, an embassy, a hostage, a bombing, a parliament, human rights, a famine, a king, the army, a rebel group, "
    "football, tennis, golf, a marathon, cricket, basketball, baseball, a coach, an injury, a world record, swimming, "
    "ice hockey, a boxing match, the Olympics, a cycling race, a league table, rugby, a goalkeeper, skiing, chess, "
    "oil prices, a merger, profits, shares, interest rates, a bank, unemployment, wages, a factory, a strike, taxes, "
    "an airline, a supermarket, inflation, exports, a currency, a bankruptcy, house prices, insurance, advertising, a "
    "space probe, a computer chip, software, the internet, a virus, a telescope, a vaccine, genes, a robot, a "
    "battery, a mobile phone, a search engine, a video game, climate change, a fossil, a comet, a laboratory, an "
    "operating system, a password, a satellite, a hospital, a diet, sleep, a dentist, a school, an exam, a "
    "university, a teacher, a library, a novel, a film, an actor, a song, an opera, a painting, a museum, fashion, a "
    "wedding, a funeral, a birthday, a recipe, bread, coffee, wine, a restaurant, a garden, trees, birds, a dog, a "
    "horse, insects, whales, a river, the weather, snow, a volcano, the desert, an island, a train, a bicycle, "
    "traffic, a bridge, a ship, a hotel, a holiday, a map, money, a lottery, a theft, a prison, a judge, a contract, "
    "a letter, a neighbour, a family, children, a doctor, old age, religion, a church, philosophy, history, ancient "
    "Rome, an empire, a revolution, slavery, a philosopher, mathematics, numbers, geometry, a proof, physics, "
    "chemistry, a cell, the brain, the heart, language, a dictionary, a poem, a rumour, friendship, anger, a dream, "
    "luck, work, a meeting, a boss, a shop, shoes, a camera, a clock, furniture, a kitchen, cleaning, electricity, "
    "water, a fire, glass, gold, steel, cotton, a minister, an ambassador, a ceasefire, a coup, a kidnapping, a "
    "suicide bomber, peace talks, a referendum, a mayor, a scandal, a spy, a pipeline, a nuclear reactor, a missile, "
    "a terrorist, a march, corruption, a visa, an immigrant, a storm, a hurricane, a drought, a plane crash, a "
    "rescue, a mine, a harbour, fishing, a harvest, rice, cattle, a forest, a zoo, a national park, a striker, a "
    "quarterback, a pitcher, a batsman, a midfielder, a transfer, a referee, a penalty, a final, a cup, a "
    "championship, a grand slam, a sprint, a relay, rowing, sailing, gymnastics, wrestling, a horse race, a racing "
    "driver, a stadium, a fan, doping, a comeback, a chief executive, a takeover, a dividend, a hedge fund, a bond, a "
    "mortgage, a pension, a tariff, a trade deficit, a car maker, a steel maker, a drug maker, a brewer, a retailer, "
    "a start-up, a patent, an auditor, a regulator, a layoff, a recall, a franchise, a broker, a stock index, copper, "
    "natural gas, a browser, a laptop, a hacker, spam, a data centre, a programming language, a printer, a download, "
    "a web site, broadband, a wireless network, a memory card, a graphics card, an update, a bug, artificial "
    "intelligence, a drone, an electric car, a solar panel, a laser, a microscope, a particle, gravity, a planet, "
    "Mars, the moon, a rocket, an astronaut, a shuttle, an asteroid, a dinosaur, evolution, a stem cell, cancer, "
    "malaria, an antibiotic, a surgeon, a transplant, an allergy, obesity, pregnancy, a nurse, an ambulance, a "
    "pharmacist, a bus, a taxi, a tunnel, an airport, luggage, a passport, a tent, a mountain, a beach, a lake, a "
    "glacier, a cave, a castle, a cathedral, a statue, a pyramid, a coin, a stamp, a newspaper, a journalist, a "
    "television series, a comedian, a guitar, a drummer, a festival, a dance, a theatre, a magician, a cartoon, a "
    "puzzle, a toy, a doll, a playground, a babysitter, twins, a grandmother, a landlord, rent, a plumber, an "
    "electrician, a carpenter, a roof, a fence, a lawn, a flower, a bee, a snake, a cat, a parrot, a spider, a shark, "
    "a wolf, an elephant, cheese, chocolate, tea, soup, a salad, an apple, a knife, an oven, a refrigerator, a "
    "washing machine, a vacuum cleaner, a coat, a hat, a ring, perfume, a haircut, a tattoo, a gym, yoga, a habit, a "
    "mistake, a promise, a secret, a lie, a gift, a debt"
).split(", ")
PLACES = (
    "London, Paris, Berlin, Rome, Madrid, Moscow, Kiev, Warsaw, Athens, Istanbul, Jerusalem, Gaza, Cairo, Baghdad, "
    "Tehran, Kabul, Islamabad, Delhi, Mumbai, Dhaka, Colombo, Bangkok, Jakarta, Manila, Singapore, Hanoi, Beijing, "
    "Hong Kong, Shanghai, Taipei, Seoul, Pyongyang, Tokyo, Sydney, Melbourne, Auckland, Nairobi, Lagos, Accra, "
    "Khartoum, Johannesburg, Harare, Kinshasa, Casablanca, Algiers, Toronto, Montreal, New York, Boston, Chicago, "
    "Detroit, Houston, Los Angeles, San Francisco, Seattle, Washington, Miami, Havana, Haiti, Mexico City, Bogota, "
    "Caracas, Lima, Santiago, Buenos Aires, Brazil, Spain, Italy, Germany, Poland, Sweden, Norway, Finland, Ireland, "
    "Scotland, Wales, Turkey, Syria, Iran, Iraq, India, Nepal, China, Japan, Australia, Canada, Texas, California, "
    "Ohio, a small town, a village, the countryside, the coast, the suburbs, the north, the capital"
).split(", ")
_MAX_TOKENS = 72


def prompt(number: int) -> str:
    """The prompt of this number, always the same."""
    luck = random.Random(number)
    form = luck.choice(list(FORMS))
    place = f" in {luck.choice(PLACES)}" if luck.random() < 0.5 else ""
    shown = luck.sample(FORMS[form], 2)
    examples = "".join(f"subject: {subject}\ntext: {text}\n\n" for subject, text in shown)
    return f"Each text is {form}.\n\n{examples}subject: {luck.choice(SUBJECTS)}{place}\ntext:"


@torch.inference_mode()
def write(model: Any, tokenizer: Any, numbers: range) -> list[str]:
    """What the model writes to the prompts of these numbers, each text on one line and without a torn last sentence."""
    torch.manual_seed(numbers.start)
    read = tokenizer([prompt(n) for n in numbers], padding=True, return_tensors="pt").to(model.device)
    line_ends = [tokenizer.convert_tokens_to_ids(t) for t in ("Ċ", "ĊĊ")]
    out = model.generate(
        **read,
        do_sample=True,
        temperature=0.8,
        top_k=50,
        max_new_tokens=_MAX_TOKENS,
        eos_token_id=[tokenizer.eos_token_id, *(i for i in line_ends if i is not None)],
        pad_token_id=tokenizer.pad_token_id,
    )[:, read.input_ids.shape[1] :]
    texts = tokenizer.batch_decode(out, skip_special_tokens=True)
    whole = (out[:, -1] == tokenizer.pad_token_id) | torch.isin(out[:, -1], torch.tensor(line_ends).to(out))
    return [_tidy(text, ended) for text, ended in zip(texts, whole.tolist(), strict=True)]


def _tidy(text: str, ended: bool) -> str:
    text = text.split("\n")[0].strip()
    ends = [found.end() for found in re.finditer(r'[.?!]"?(?= |$)', text)]
    return text if ended or not ends else text[: ends[-1]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=4608)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no batch after so long")
    args = parser.parse_args()
    began = time.perf_counter()
    begun = sum(1 for _ in args.out.open(encoding="utf-8")) if args.out.exists() else 0
    device = "cuda" if torch.cuda.is_available() else "cpu"
    folder = embedded_folder()
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device).eval()
    with args.out.open("a", encoding="utf-8") as file:
        for start in range(begun, args.count, args.batch_size):
            if time.perf_counter() - began > args.seconds:
                break
            numbers = range(start, min(start + args.batch_size, args.count))
            texts = write(model, tokenizer, numbers)
            rows = ({"id": n, "text": text} for n, text in zip(numbers, texts, strict=True))
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            file.flush()
            shown = list(itertools.islice(texts, 2))
            print(f"{numbers.stop} of {args.count}, {time.perf_counter() - began:.0f} s: {shown}", flush=True)


if __name__ == "__main__":
    main()
