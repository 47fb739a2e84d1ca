// Prints "PASSED FAILED" for one part of .ci/run, from what its test runner wrote to BASE.json or BASE.log.
// Exits non-zero when there is no result to read: the runner crashed, which must not look like success.
import { readFileSync } from 'node:fs';

const counters = {
  /** Vitest's JSON reporter. A file that does not even load has no tests: it is one failure. */
  vitest(base) {
    const report = JSON.parse(readFileSync(`${base}.json`, 'utf8'));
    const unloaded = report.testResults.filter((f) => f.status === 'failed' && f.assertionResults.length === 0);
    return [report.numPassedTests, report.numFailedTests + unloaded.length];
  },
  /** Doctest's lines about test cases, one of each process; no line, no result. */
  doctest(base) {
    const log = readFileSync(`${base}.log`, 'utf8');
    const lines = log.matchAll(/^\[doctest\] test cases:\s*\d+\s*\|\s*(\d+) passed\s*\|\s*(\d+) failed/gm);
    return [...lines].reduce(([p, f], [, passed, failed]) => [p + Number(passed), f + Number(failed)], [0, 0]);
  },
  /** A last line like that of .ci/run; what was skipped, where that is said, is a result too. */
  total(base) {
    const line = readFileSync(`${base}.log`, 'utf8').match(/^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$/m);
    return line?.slice(1).map((count) => Number(count ?? 0));
  },
  /** The golden runner's total. */
  golden(base) {
    const line = readFileSync(`${base}.log`, 'utf8').match(/^total: (\d+) passed, (\d+) failed/m);
    return line && [Number(line[1]), Number(line[2])];
  },
};

const [kind, base] = process.argv.slice(2);
try {
  const counts = counters[kind](base);
  if (!counts?.some((count) => count > 0)) throw new Error(`no test ran`);
  console.log(counts.slice(0, 2).join(' '));
} catch (error) {
  console.error(`count-tests: no ${kind} result for ${base}: ${error.message}`);
  process.exit(1);
}
