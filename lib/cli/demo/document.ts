// A long letter with a few facts in it, and questions about them. Names and values are drawn as for the evaluation
// data of the embedded models: from the part of the name space that their training never saw.

import { createHash } from 'node:crypto';
import type { Random } from '../random.ts';

export interface Question {
  question: string;
  /** null when nobody said what is right. */
  expected: string | null;
}

export interface DemoDocument {
  text: string;
  questions: Question[];
}

const words = (text: string) => text.trim().split(/\s+/);

const firstNames = words(`Ada Adam Agnes Alan Albert Alice Amos Amy Andrew Anna Anton Arthur Astrid Basil Beatrice Bruno
  Calvin Carol Cecil Clara Colin Cora Cyrus Daisy Daniel Dennis Dora Edgar Edith Edmund Elena Eliza Emil Esther
  Felix Flora Frances Gerald Gloria Greta Gustav Harriet Hector Helen Hilda Horace Hugo Igor Irene Isaac Ivy Jasper Joan
  Jonas Julia Karl Laura Leon Lewis Linda Lucy Mabel Magnus Marcus Martha Matilda Miles Mina Nathan Nina Norman Olga
  Otto Pamela Pearl Phoebe Quentin Ralph Rhoda Roland Rosa Rufus Ruth Silas Simon Sofia Stella Sybil Thelma Toby Ursula
  Vera Victor Violet Walter Wanda Wilfred Winifred Yvonne Zelda`);
const adjectives = words(`red blue green yellow white black brown grey silver golden copper iron wooden glass leather
  paper woollen cotton silk marble velvet old new small large heavy light broken painted polished carved folded round
  square narrow tall short bright dark smooth rough striped plain simple rusty empty sealed spare`);
const objects =
  words(`lantern kettle basket hammer mirror ladder bucket blanket candle compass drum flute violin trumpet
  saddle anchor barrel bottle box chest clock coat cup curtain dish fan feather flag fork frame gate glove hat helmet jar
  key knife lamp letter lock map mask medal needle net oar pan pen pillow pipe plate pot purse ring rope rug scarf shield
  shovel spoon stool table tent tray umbrella vase wagon watch wheel whistle`);
const months = words('January February March April May June July August September October November December');
const onsets = words('B Br C Cl D Dr F Fl G Gr H J K L M N P Pr R S St T Tr V W Z Th Sh');
const vowels = words('a e i o u ai ea');
const codas = words('l n r s m t d k nd rt st ll nn ck v b');
const townEnds = words('ton ford ham ville field port bury wick dale mouth stead bridge haven burg mont');

/** True for the tenth of all values of a kind that the embedded models' training data left out. */
function isHeldOut(kind: string, value: string): boolean {
  return createHash('sha256').update(`${kind}\0${value}`).digest().readUInt32BE(0) % 10 === 8;
}

/** Draws values of the held-out part, none twice. */
class Pool {
  private readonly random: Random;
  private readonly used = new Set<string>();

  constructor(random: Random) {
    this.random = random;
  }

  person(): string {
    const { random } = this;
    return this.draw('person', () =>
      random.next() < 0.5 ? random.pick(firstNames) : this.name(2, random.pick(codas)),
    );
  }

  town(): string {
    return this.draw('town', () => this.name(1 + this.random.below(2), this.random.pick(townEnds)));
  }

  thing(): string {
    return this.draw('thing', () => `${this.random.pick(adjectives)} ${this.random.pick(objects)}`);
  }

  date(): string {
    return this.draw('date', () => `${this.random.pick(months)} ${1 + this.random.below(28)}`);
  }

  /** A number of three digits. */
  room(): string {
    return this.draw('number', () => String(100 + this.random.below(900)));
  }

  private name(syllables: number, end: string): string {
    const { random } = this;
    let name = random.pick(onsets) + random.pick(vowels);
    for (let i = 1; i < syllables; i++) name += random.pick(codas) + random.pick(vowels);
    return name + end;
  }

  private draw(kind: string, make: () => string): string {
    for (;;) {
      const value = make();
      if (this.used.has(value) || !isHeldOut(kind, value)) continue;
      this.used.add(value);
      return value;
    }
  }
}

/**
 * @param prose sentences to hide the facts among
 * @param characters about how long the letter becomes
 */
export function makeDocument(random: Random, prose: readonly string[], characters: number): DemoDocument {
  const pool = new Pool(random);
  const [from, to] = [pool.person(), pool.person()];
  const facts = random.shuffle([
    fact((value) => `The meeting is on ${value}.`, 'When is the meeting?', pool.date()),
    fact((value) => `The room is ${value}.`, 'What is the room?', pool.room()),
    fact((value) => `We will meet in ${value}.`, 'In which town is the meeting?', pool.town()),
  ]);
  const gap = characters / (facts.length + 1);
  const parts = facts.flatMap((f) => [someProse(random, prose, gap * (0.6 + 0.8 * random.next())), f.sentence]);
  const written = parts.reduce((sum, part) => sum + part.length + 1, 0);
  parts.push(someProse(random, prose, Math.max(120, characters - written)));
  return {
    text: `From: ${from}\nTo: ${to}\n\nDear ${to},\n${parts.join(' ')}\nYours, ${from}`,
    questions: [
      ...facts.map(({ question, expected }) => ({ question, expected })),
      { question: 'Who wrote the message?', expected: from },
    ],
  };
}

function fact(sentence: (value: string) => string, question: string, value: string) {
  return { sentence: sentence(value), question, expected: value };
}

/** Whole sentences, about `characters` of them. */
function someProse(random: Random, prose: readonly string[], characters: number): string {
  const parts: string[] = [];
  let length = 0;
  for (let i = random.below(prose.length); length < characters; i++) {
    const sentence = prose[i % prose.length]!;
    parts.push(sentence);
    length += sentence.length + 1;
  }
  return parts.join(' ');
}
