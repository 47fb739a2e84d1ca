// The record of a run: a CSV line for each update, and a picture of the loss. Strings in, strings out.

export interface LossRecord {
  /** Updates that are done, this one included. */
  step: number;
  loss: number;
  logitsLoss: number;
  hiddenLoss: number;
  gradientNorm: number;
  learningRate: number;
  /** Since the beginning. */
  tokens: number;
}

export interface EvaluationPoint {
  step: number;
  loss: number;
}

const columns = ['step', 'loss', 'logitsLoss', 'hiddenLoss', 'gradientNorm', 'learningRate', 'tokens'] as const;

/** The first line of a new file. */
export const lossCsvHeader = `${columns.join(',')}\n`;

/** The line to append after an update; numbers as JavaScript prints them, so that reading gives the same ones back. */
export function lossCsvLine(record: LossRecord): string {
  return `${columns.map((column) => record[column]).join(',')}\n`;
}

/**
 * The records of a file. Where a run went on from a checkpoint, steps that it repeated stand twice: the later ones count.
 * A last line without its end was not finished and is left out.
 */
export function parseLossCsv(text: string): LossRecord[] {
  const records = new Map<number, LossRecord>();
  for (const line of text.split('\n').slice(1, -1)) {
    const values = line.split(',').map(Number);
    const record = Object.fromEntries(columns.map((column, i) => [column, values[i]])) as unknown as LossRecord;
    records.set(record.step, record);
  }
  return [...records.values()].toSorted((a, b) => a.step - b.step);
}

const width = 800;
const height = 400;
const area = { left: 64, right: width - 16, top: 40, bottom: height - 48 };

/** Losses over this factor are drawn on a logarithmic axis: a linear one would flatten all but the beginning. */
const logarithmicFrom = 20;

interface Axis {
  ticks: readonly number[];
  /** Of a value, in pixels. */
  at(value: number): number;
}

/** Round numbers from about `from` to about `to`, 1, 2 or 5 times a power of ten apart. */
function linearTicks(from: number, to: number, about: number): number[] {
  const rough = (to - from) / about || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const spacing = [1, 2, 5, 10].map((digit) => digit * power).find((candidate) => candidate >= rough) ?? 10 * power;
  const first = Math.floor(from / spacing + 1e-9);
  const last = Math.ceil(to / spacing - 1e-9);
  return Array.from({ length: Math.max(last, first + 1) - first + 1 }, (_, i) => (first + i) * spacing);
}

/** Powers of ten around the values, and 2 and 5 times them where there are few. */
function logarithmicTicks(from: number, to: number): number[] {
  const [first, last] = [Math.floor(Math.log10(from)), Math.ceil(Math.log10(to))];
  const digits = last - first <= 2 ? [1, 2, 5] : [1];
  const all = Array.from({ length: last - first + 1 }, (_, i) =>
    digits.map((digit) => digit * 10 ** (first + i)),
  ).flat();
  const below = all.filter((tick) => tick <= from * (1 + 1e-9)).length - 1;
  const above = all.findIndex((tick) => tick >= to * (1 - 1e-9));
  return all.slice(Math.max(0, below), above < 0 ? undefined : above + 1);
}

function axis(ticks: readonly number[], from: number, to: number, scale: (value: number) => number): Axis {
  const [low, high] = [scale(ticks[0]!), scale(ticks.at(-1)!)];
  return { ticks, at: (value) => from + ((scale(value) - low) / (high - low)) * (to - from) };
}

function valueAxis(values: readonly number[]): Axis {
  const low = values.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  const high = values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  if (low > 0 && high / low >= logarithmicFrom)
    return axis(logarithmicTicks(low, high), area.bottom, area.top, Math.log10);
  return axis(linearTicks(Math.min(low, 0), high, 6), area.bottom, area.top, (value) => value);
}

/** A centred mean over `radius` neighbours on either side, fewer at the ends. */
function smooth(values: readonly number[], radius: number): number[] {
  const sums = [0];
  for (const value of values) sums.push(sums.at(-1)! + value);
  return values.map((_, i) => {
    const reach = Math.min(radius, i, values.length - 1 - i);
    return (sums[i + reach + 1]! - sums[i - reach]!) / (2 * reach + 1);
  });
}

/** At most 6 significant digits. */
const label = (value: number) => String(Number(value.toPrecision(6)));
/** A tenth of a pixel is finer than one sees. */
const px = (value: number) => String(Number(value.toFixed(1)));

const style = `<style>
  text { font: 12px system-ui, sans-serif; fill: #24292f; } .faint { fill: #57606a; } .middle { text-anchor: middle; }
  .end { text-anchor: end; } .paper { fill: #fff; } .grid { stroke: #d0d7de; } .raw { fill: #0969da; fill-opacity: 0.3; }
  .smooth { fill: none; stroke: #0969da; stroke-width: 2; stroke-linejoin: round; }
  .evaluation { fill: #cf222e; } .evaluations { fill: none; stroke: #cf222e; stroke-dasharray: 4 3; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .faint { fill: #9198a1; } .paper { fill: #0d1117; } .grid { stroke: #30363d; }
    .raw { fill: #58a6ff; } .smooth { stroke: #58a6ff; } .evaluation { fill: #f85149; } .evaluations { stroke: #f85149; }
  }
</style>`;

const escapeXml = (text: string) => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

/**
 * A picture of losses over steps for light and dark pages: each update a point, their smoothed line, and evaluations where
 * there are any. The same records give the same text. Values that are not finite are left out.
 */
export function lossCurveSvg(
  records: readonly Pick<LossRecord, 'step' | 'loss'>[],
  evaluations: readonly EvaluationPoint[] = [],
  title = 'Loss over updates',
): string {
  const finite = <P extends EvaluationPoint>(points: readonly P[]) =>
    points.filter(({ loss }) => Number.isFinite(loss));
  const [points, evaluated] = [finite(records), finite(evaluations)];
  const all = [...points, ...evaluated];
  const y = valueAxis(all.length > 0 ? all.map(({ loss }) => loss) : [0, 1]);
  const lastStep = all.reduce((most, { step }) => Math.max(most, step), 1);
  const x = axis(linearTicks(0, lastStep, 8), area.left, area.right, (value) => value);
  const path = (line: readonly EvaluationPoint[]) =>
    line.map(({ step, loss }, i) => `${i === 0 ? 'M' : 'L'}${px(x.at(step))} ${px(y.at(loss))}`).join('');
  const dots = (line: readonly EvaluationPoint[], kind: string, radius: number) =>
    line.map(
      ({ step, loss }) => `<circle class="${kind}" cx="${px(x.at(step))}" cy="${px(y.at(loss))}" r="${radius}"/>`,
    );
  const smoothed = smooth(
    points.map(({ loss }) => loss),
    Math.ceil(points.length / 40),
  );
  const middle = px((area.left + area.right) / 2);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}">`,
    `<title>${escapeXml(title)}</title>`,
    style,
    `<rect class="paper" width="${width}" height="${height}"/>`,
    `<text x="${area.left}" y="24">${escapeXml(title)}</text>`,
    ...y.ticks.flatMap((tick) => [
      `<line class="grid" x1="${area.left}" x2="${area.right}" y1="${px(y.at(tick))}" y2="${px(y.at(tick))}"/>`,
      `<text class="faint end" x="${area.left - 8}" y="${px(y.at(tick) + 4)}">${label(tick)}</text>`,
    ]),
    ...x.ticks.flatMap((tick) => [
      `<line class="grid" x1="${px(x.at(tick))}" x2="${px(x.at(tick))}" y1="${area.bottom}" y2="${area.bottom + 5}"/>`,
      `<text class="faint middle" x="${px(x.at(tick))}" y="${area.bottom + 20}">${label(tick)}</text>`,
    ]),
    `<text class="faint middle" x="${middle}" y="${height - 10}">updates</text>`,
    ...dots(points, 'raw', 1.5),
    ...(points.length > 1
      ? [`<path class="smooth" d="${path(points.map(({ step }, i) => ({ step, loss: smoothed[i]! })))}"/>`]
      : []),
    ...(evaluated.length > 1 ? [`<path class="evaluations" d="${path(evaluated)}"/>`] : []),
    ...dots(evaluated, 'evaluation', 4),
    ...(evaluated.length > 0 ? [`<text class="end evaluation" x="${area.right}" y="24">evaluation</text>`] : []),
    '</svg>',
    '',
  ].join('\n');
}
