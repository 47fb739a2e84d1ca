import { describe, expect, it } from 'vitest';
import { type LossRecord, lossCsvHeader, lossCsvLine, lossCurveSvg, parseLossCsv } from '../../lib/train/loss-curve.ts';

const record = (step: number, loss: number): LossRecord => ({
  step,
  loss,
  logitsLoss: loss / 3,
  hiddenLoss: (2 * loss) / 3,
  gradientNorm: 1 / step,
  learningRate: 2e-4 / step,
  tokens: 1000 * step,
});
const falling = Array.from({ length: 300 }, (_, i) => record(i + 1, 5 * 0.98 ** i + 0.3 + 0.1 * Math.sin(i * 1.7)));

/** What stands in a document of elements, text and character references; throws where it is not well-formed. */
function elementsOf(xml: string): { name: string; attributes: Record<string, string>; text: string }[] {
  const found: { name: string; attributes: Record<string, string>; text: string }[] = [];
  const open: typeof found = [];
  const token = /<(\/?)([a-z]+)((?: [\w:-]+="[^"<&]*")*)(\/?)>|((?:[^<&]|&#\d+;)+)/gy;
  let roots = 0;
  while (token.lastIndex < xml.length) {
    const at = token.lastIndex;
    const match = token.exec(xml);
    if (match === null) throw new Error(`not well-formed from character ${at} on: ${xml.slice(at, at + 60)}`);
    const [, closing, name, attributes, empty, text] = match;
    if (text !== undefined) {
      if (open.length > 0) open.at(-1)!.text += text;
      else if (text.trim() !== '') throw new Error(`text outside of the root: ${text}`);
    } else if (closing) {
      const element = open.pop();
      if (element?.name !== name) throw new Error(`</${name}> closes <${element?.name}>`);
    } else {
      if (open.length === 0 && roots++ > 0) throw new Error('more than one root');
      const pairs = [...attributes!.matchAll(/ ([\w:-]+)="([^"]*)"/g)].map((pair) => [pair[1]!, pair[2]!] as const);
      if (new Set(pairs.map(([key]) => key)).size < pairs.length) throw new Error(`an attribute of <${name}> twice`);
      const element = { name: name!, attributes: Object.fromEntries(pairs), text: '' };
      found.push(element);
      if (!empty) open.push(element);
    }
  }
  if (open.length > 0 || roots === 0) throw new Error(`<${open.at(-1)?.name}> is not closed`);
  return found;
}

describe('the CSV of losses', () => {
  it('gives back the records that were written', () => {
    const text = lossCsvHeader + falling.map(lossCsvLine).join('');
    expect(text.split('\n')[0]).toBe('step,loss,logitsLoss,hiddenLoss,gradientNorm,learningRate,tokens');
    expect(parseLossCsv(text)).toEqual(falling);
  });

  it('takes the later one of steps that a resumed run repeated, and leaves out a line that was cut', () => {
    const lines = [record(1, 5), record(2, 4), record(3, 3), record(2, 40), record(3, 30)].map(lossCsvLine);
    const text = `${lossCsvHeader}${lines.join('')}4,2`;
    expect(parseLossCsv(text).map(({ step, loss }) => [step, loss])).toEqual([
      [1, 5],
      [2, 40],
      [3, 30],
    ]);
  });
});

describe('lossCurveSvg', () => {
  const evaluations = [0, 100, 200, 300].map((step) => ({ step, loss: 4 - step / 100 }));

  it('is well-formed and the same on every call', () => {
    const svg = lossCurveSvg(falling, evaluations, 'a < b & "c"');
    const elements = elementsOf(svg);
    expect(elements[0]!.name).toBe('svg');
    expect(elements.find(({ name }) => name === 'title')!.text).toBe('a &#60; b &#38; &#34;c&#34;');
    expect(lossCurveSvg(structuredClone(falling), structuredClone(evaluations), 'a < b & "c"')).toBe(svg);
    expect(svg).toContain('prefers-color-scheme: dark');
  });

  it('draws every update and evaluation inside of the picture', () => {
    const elements = elementsOf(lossCurveSvg(falling, evaluations));
    const circles = elements.filter(({ name }) => name === 'circle');
    expect(circles.filter(({ attributes }) => attributes['class'] === 'raw')).toHaveLength(300);
    expect(circles.filter(({ attributes }) => attributes['class'] === 'evaluation')).toHaveLength(4);
    for (const { attributes } of circles) {
      expect(Number(attributes['cx'])).toBeGreaterThanOrEqual(64);
      expect(Number(attributes['cx'])).toBeLessThanOrEqual(784);
      expect(Number(attributes['cy'])).toBeGreaterThanOrEqual(40);
      expect(Number(attributes['cy'])).toBeLessThanOrEqual(352);
    }
  });

  it('has round ticks, linear for losses that are close and powers of ten for others', () => {
    const labels = (losses: number[]) =>
      elementsOf(lossCurveSvg(losses.map((loss, i) => record(i + 1, loss))))
        .filter(({ attributes }) => attributes['class'] === 'faint end')
        .map(({ text }) => text);
    expect(labels([2.9, 2, 1.1])).toEqual(['0', '0.5', '1', '1.5', '2', '2.5', '3']);
    expect(labels([900, 20, 0.03])).toEqual(['0.01', '0.1', '1', '10', '100', '1000']);
    expect(labels([30, 6, 1.1])).toEqual(['1', '2', '5', '10', '20', '50']);
  });

  it('draws something of no record, of one, of equal ones and of ones that are no number', () => {
    for (const losses of [[], [2], [0, 0, 0], [3, 3], [Number.NaN, 1, Number.POSITIVE_INFINITY]]) {
      const svg = lossCurveSvg(losses.map((loss, i) => record(i + 1, loss)));
      elementsOf(svg);
      expect(svg).not.toMatch(/NaN|Infinity/);
    }
  });
});
