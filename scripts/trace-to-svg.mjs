// Draws a trace of an engine as a timeline: steps, the work of JavaScript, a row for every answer, free blocks.
//   node scripts/trace-to-svg.mjs TRACE.json OUT.svg [--from MS] [--to MS] [--width 1200]
// Times count from the first event. Meant for a few dozen steps; Perfetto is for more.

import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    from: { type: 'string', default: '0' },
    to: { type: 'string', default: 'Infinity' },
    width: { type: 'string', default: '1200' },
  },
});
const [tracePath, svgPath] = positionals;
if (svgPath === undefined) {
  console.error('Expected a trace and a file to draw it to: node scripts/trace-to-svg.mjs TRACE.json OUT.svg');
  process.exit(2);
}

const style = `
  text { font: 12px system-ui, sans-serif; fill: #24292f; }
  .small { font-size: 10px; } .faint { fill: #57606a; } .on { fill: #fff; text-anchor: middle; }
  .paper { fill: #fff; } .grid { stroke: #d0d7de; } .free { fill: none; stroke: #57606a; stroke-width: 1.5; }
  .prefill { fill: #0969da; } .decode { fill: #1a7f37; } .mixed { fill: #8250df; }
  .queued-band { fill: #eaeef2; } .prefill-band { fill: #b6d8ff; } .decode-band { fill: #bfe8c8; }
  .preempted-band { fill: #ffc9c3; } .paused-band { fill: #fbe3a0; }
  .schedule { fill: #cf222e; } .fill { fill: #e08600; } .submit { fill: #8250df; } .notify { fill: #0969da; } .apply { fill: #1a7f37; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .faint { fill: #9198a1; } .on { fill: #fff; }
    .paper { fill: #0d1117; } .grid { stroke: #30363d; } .free { stroke: #9198a1; }
    .prefill { fill: #2f81f7; } .decode { fill: #2ea043; } .mixed { fill: #8957e5; }
    .queued-band { fill: #262c36; } .prefill-band { fill: #123a6e; } .decode-band { fill: #14432a; }
    .preempted-band { fill: #67201f; } .paused-band { fill: #5b4708; }
    .schedule { fill: #f85149; } .fill { fill: #e3a008; } .submit { fill: #a371f7; } .notify { fill: #58a6ff; } .apply { fill: #3fb950; }
  }`;

const left = 168;
const rowHeight = 26;
const barHeight = 18;
const phases = ['queued', 'prefill', 'decode', 'preempted', 'paused'];

function readTrace(path) {
  const { traceEvents } = JSON.parse(readFileSync(path, 'utf8'));
  const pid = traceEvents.find((e) => e.name === 'thread_name')?.pid;
  const events = traceEvents.filter((e) => e.pid === pid);
  const origin = Math.min(...events.filter((e) => e.ph !== 'M').map((e) => e.ts));
  const ms = (us) => (us - origin) / 1000;
  const slices = events
    .filter((e) => e.ph === 'X')
    .map((e) => ({ tid: e.tid, name: e.name, from: ms(e.ts), to: ms(e.ts + e.dur), args: e.args }));
  const tracks = events
    .filter((e) => e.name === 'thread_name' && e.args.name.startsWith('request '))
    .map((e) => ({ key: e.args.name.slice('request '.length), tid: e.tid }));
  const ends = new Map(events.filter((e) => e.ph === 'E').map((e) => [e.tid, e.args]));
  const free = events.filter((e) => e.name === 'free blocks').map((e) => ({ at: ms(e.ts), blocks: e.args.free }));
  return { slices, tracks, ends, free };
}

const { slices, tracks, ends, free } = readTrace(tracePath);
const steps = slices.filter((s) => s.tid === 1);
const from = Number(values.from);
const to = Math.min(Number(values.to), Math.max(...slices.map((s) => s.to)));
const width = Number(values.width);
const scale = (width - left - 16) / (to - from);
const x = (ms) => left + (Math.min(Math.max(ms, from), to) - from) * scale;
const visible = (s) => s.to > from && s.from < to;
const n = (value) => String(Math.round(value * 100) / 100);

const out = [];
const rect = (kind, s, y, height, title = '') =>
  out.push(
    `<rect class="${kind}" x="${n(x(s.from))}" y="${n(y)}" width="${n(Math.max(x(s.to) - x(s.from), 0.6))}" ` +
      `height="${n(height)}">${title && `<title>${title}</title>`}</rect>`,
  );
const text = (kind, at, y, words) => out.push(`<text class="${kind}" x="${n(at)}" y="${n(y)}">${words}</text>`);
/** In the middle of a bar that has room for it. */
const label = (s, y, words) => {
  const room = x(s.to) - x(s.from);
  if (room > words.length * 6 + 4) text('small on', (x(s.from) + x(s.to)) / 2, y + 12.5, words);
};

/** Requests are called A, B, C, ..., the second answer to A is A.1. */
const names = new Map();
const requests = [...new Set(tracks.map(({ key }) => key.split('.')[0]))];
for (const { key } of tracks) {
  const [request, index] = key.split('.');
  const letter = String.fromCharCode(65 + requests.indexOf(request));
  names.set(key, index === undefined ? letter : `${letter}.${index}`);
}

let y = 34;
const top = y;
text('', 8, y + 13, 'steps (rows)');
for (const s of steps.filter(visible)) {
  rect(s.name, s, y, barHeight, `step ${s.args.step}: ${s.args.rows} rows, ${s.args.survivors} take every layer`);
  label(s, y, String(s.args.rows));
}
y += rowHeight;
text('', 8, y + 13, 'JavaScript');
for (const s of slices.filter((s) => s.tid === 2 && visible(s))) {
  rect(s.name, s, y, barHeight, `${s.name} ${n((s.to - s.from) * 1000)} us`);
}
y += rowHeight + 6;

for (const { key, tid } of tracks) {
  const { promptTokens = 0, completionTokens = 0, cachedTokens = 0 } = ends.get(tid) ?? {};
  text('', 8, y + 9, names.get(key));
  const cached = cachedTokens > 0 ? ` (${cachedTokens} cached)` : '';
  text('small faint', 8, y + 20, `${promptTokens}${cached} in, ${completionTokens} out`);
  for (const s of slices.filter((s) => s.tid === tid && visible(s))) rect(`${s.name}-band`, s, y, barHeight, s.name);
  for (const s of steps.filter(visible)) {
    if (s.args.decodes.split(' ').includes(key)) rect('decode', s, y + 5, barHeight - 10);
    const chunk = s.args.chunks.split(' ').find((c) => c.split(':')[0] === key);
    if (chunk === undefined) continue;
    const [start, count] = chunk.split(':')[1].split('+');
    rect('prefill', s, y + 1, barHeight - 2, `tokens ${start} to ${Number(start) + Number(count) - 1}`);
    label(s, y, count);
  }
  y += rowHeight;
}

y += 4;
const most = Math.max(1, ...free.map((f) => f.blocks));
const blocksHeight = 36;
text('', 8, y + 13, 'free blocks');
text('small faint', 8, y + 26, `of 16 tokens; top: ${most}`);
const height = (blocks) => y + blocksHeight - (blocks / most) * blocksHeight;
const path = free.map(({ at, blocks }, i) => {
  const end = free[i + 1]?.at ?? to;
  return `${i === 0 ? 'M' : 'L'}${n(x(at))},${n(height(blocks))} L${n(x(end))},${n(height(blocks))}`;
});
out.push(`<path class="free" d="${path.join(' ')}"/>`);
y += blocksHeight + 8;

const grid = [];
const tick = 10 ** Math.floor(Math.log10((to - from) / 4));
const every = (to - from) / tick > 12 ? tick * 2 : tick;
for (let at = Math.ceil(from / every) * every; at <= to; at += every) {
  grid.push(`<line class="grid" x1="${n(x(at))}" x2="${n(x(at))}" y1="${top - 6}" y2="${n(y)}"/>`);
  if (x(at) < width - 40) grid.push(`<text class="small faint" x="${n(x(at) + 3)}" y="${top - 8}">${n(at)} ms</text>`);
}

let at = left;
const key = (kind, words) => {
  out.push(`<rect class="${kind}" x="${n(at)}" y="${n(y + 4)}" width="12" height="12"/>`);
  text('small', at + 16, y + 14, words);
  at += 16 + words.length * 5.6 + 14;
};
for (const phase of phases) key(`${phase}-band`, phase);
key('prefill', 'rows of a prompt');
key('decode', 'next tokens');
key('mixed', 'step with both');
for (const work of ['schedule', 'fill', 'submit', 'notify', 'apply']) key(work, work);
y += 26;

writeFileSync(
  svgPath,
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${n(y)}" width="${width}" height="${n(y)}">
<title>Timeline of an engine: steps, JavaScript, answers, free blocks</title>
<style>${style}
</style>
<rect class="paper" width="${width}" height="${n(y)}"/>
${grid.join('\n')}
${out.join('\n')}
</svg>
`,
);
