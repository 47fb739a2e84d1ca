// Results as Markdown.

import { summary } from './statistics.mjs';

const number = (value) => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2));
const percent = (value) => (value === null ? '?' : `${(100 * value).toFixed(1)}%`);

/** Tokens a second: median (least to greatest). */
function rate(rounds, tokens) {
  const { median, min, max } = summary(rounds.map(({ ms }) => (1000 * tokens) / ms));
  return `${number(median)} (${number(min)} to ${number(max)})`;
}

/** Ours over theirs: of the medians, and round by round. */
function ratio(ours, theirs) {
  const rounds = summary(ours.map(({ ms }, i) => theirs[i].ms / ms));
  const medians = summary(theirs.map(({ ms }) => ms)).median / summary(ours.map(({ ms }) => ms)).median;
  return `${medians.toFixed(2)} (${rounds.min.toFixed(2)} to ${rounds.max.toFixed(2)})`;
}

const worst = (rounds) => rounds.reduce((most, { others }) => (others === null ? null : Math.max(most, others)), 0);

/** How many processors a peer kept busy. */
const used = (rounds) =>
  rounds.some(({ processors }) => processors === null)
    ? '?'
    : summary(rounds.map(({ processors }) => processors)).median.toFixed(1);

function* pairs(results) {
  for (const { peers, ...result } of results) {
    const theirs = peers.find(({ ours }) => !ours);
    for (const ours of peers.filter((peer) => peer.ours)) yield { ...result, ours, theirs };
  }
}

function* speedRows(results) {
  for (const { bits, threads, what, tokens, readsWeights, ours, theirs } of pairs(results)) {
    const both = [ours, theirs].map(({ rounds }) => rounds);
    // A decode step reads every weight once; a tied embedding is the head.
    const reads = ({ rounds, weightBytes }) =>
      readsWeights ? `; ${number((weightBytes * tokens) / summary(rounds.map(({ ms }) => ms)).median / 1e6)} GB/s` : '';
    yield [
      `${ours.name} / ${theirs.name}`,
      `${bits}`,
      `${threads}`,
      what,
      ...[ours, theirs].map((side) => rate(side.rounds, tokens) + reads(side)),
      ratio(...both),
      both.map(used).join(' / '),
      both.map((rounds) => percent(worst(rounds))).join(' / '),
    ];
  }
}

/** Each side with the number of threads that suits it best: more are not always faster. */
function* bestRows(results) {
  const groups = new Map();
  for (const pair of pairs(results)) {
    const key = `${pair.ours.name} ${pair.what}`;
    groups.set(key, [...(groups.get(key) ?? []), pair]);
  }
  for (const group of groups.values()) {
    if (group.length < 2) continue;
    const { what, tokens } = group[0];
    const sides = ['ours', 'theirs'].map((side) => {
      const all = group.map((one) => ({ threads: one.threads, rounds: one[side].rounds, name: one[side].name }));
      const ms = ({ rounds }) => summary(rounds.map((round) => round.ms)).median;
      return all.reduce((best, one) => (ms(one) < ms(best) ? one : best));
    });
    const cells = sides.map(({ rounds, threads }) => `${rate(rounds, tokens)}, ${threads} threads`);
    const names = sides.map(({ name }) => name).join(' / ');
    yield [names, what, ...cells, ratio(...sides.map(({ rounds }) => rounds))];
  }
}

function* neighbourRows(neighbours) {
  for (const { bits, threads, tokens, peers } of neighbours) {
    for (const { name, quiet, busy } of peers) {
      const kept = summary(quiet.map(({ ms }) => ms)).median / summary(busy.map(({ ms }) => ms)).median;
      const others = [quiet, busy].map((rounds) => percent(worst(rounds))).join(' / ');
      yield [name, `${bits}`, `${threads}`, rate(quiet, tokens), rate(busy, tokens), percent(kept), others];
    }
  }
}

function table(head, rows) {
  const align = head.map((_, i) => (i === 0 ? '---' : '---:'));
  return [head, align, ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

/** Rounds during which others took more than the limit, after all repetitions too. */
function disturbedRounds({ results, neighbours }) {
  const sides = [
    ...results.flatMap(({ peers }) => peers.map(({ rounds }) => rounds)),
    ...neighbours.flatMap(({ peers }) => peers.flatMap(({ quiet, busy }) => [quiet, busy])),
  ].flat();
  return `${sides.filter(({ disturbed }) => disturbed).length} of ${sides.length}`;
}

/** @param {object} report what run.mjs collects */
export function markdown(report) {
  const { machine, options, results, neighbours, peers, notes } = report;
  const lines = [
    `Model ${report.model}. ${machine.cpu}, ${machine.processors} processors, Node ${machine.node}.`,
    `${options.rounds} rounds in turns; medians, in parentheses the least to the greatest. A round is repeated up to`,
    `${options.repeats} times while others take more than ${percent(options.limit)} of the machine; ` +
      `${disturbedRounds(report)} stayed so.`,
  ];
  if (results.length > 0) {
    const head = ['ours / theirs', 'bits', 'threads', 'what', 'ours, tokens/s', 'theirs, tokens/s', 'ratio'];
    lines.push('', table([...head, 'processors used', "others' CPU at most"], [...speedRows(results)]));
    const best = [...bestRows(results)];
    if (best.length > 0) {
      lines.push('', table(['ours / theirs', 'what', 'ours at best', 'theirs at best', 'ratio'], best));
    }
  }
  if (neighbours.length > 0) {
    const head = ['decode', 'bits', 'threads', 'alone, tokens/s', 'one processor busy, tokens/s', 'kept'];
    lines.push('', table([...head, "others' CPU at most"], [...neighbourRows(neighbours)]));
  }
  lines.push('', 'The machine in the same run:', '');
  for (const { bits, threads, read, dot } of report.peaks) {
    const range = (peak) =>
      peak === null ? 'none' : `${number(peak.median)} (${number(peak.min)} to ${number(peak.max)})`;
    lines.push(
      `- beside ${bits} bits, ${threads} threads: reads ${range(read)} GB/s, bf16 products in registers ${range(dot)} GFLOP/s`,
    );
  }
  for (const note of notes) lines.push('', note);
  lines.push('', 'Settings:', '');
  for (const peer of peers) {
    const { name, threads, loadMs, peakBytes, settings } = peer;
    lines.push(
      `- ${name}, ${threads} threads: ${JSON.stringify(settings)}; loaded in ${(loadMs / 1000).toFixed(1)} s, ` +
        `at most ${(peakBytes / 1e9).toFixed(2)} GB resident`,
    );
  }
  return lines.join('\n');
}
