// A progress bar on stderr, and nothing at all where stderr is not a terminal.

import type { LoadProgress } from '../model/load.ts';
import { formatBytes } from './table.ts';

const barWidth = 30;
const redrawMs = 50;

export interface ProgressBar {
  update(progress: LoadProgress): void;
  /** Removes the bar. */
  done(): void;
}

export function progressBar(label: string, stream: NodeJS.WriteStream = process.stderr): ProgressBar {
  if (!stream.isTTY) return { update() {}, done() {} };
  let lastDraw = 0;
  let shown = false;
  return {
    update({ loadedBytes, totalBytes }) {
      const now = Date.now();
      if (now - lastDraw < redrawMs) return;
      lastDraw = now;
      shown = true;
      const fraction = totalBytes > 0 ? loadedBytes / totalBytes : 1;
      const filled = Math.round(fraction * barWidth);
      const bar = '█'.repeat(filled) + '░'.repeat(barWidth - filled);
      stream.write(`\r${label} ${bar} ${formatBytes(loadedBytes)} of ${formatBytes(totalBytes)}\x1b[K`);
    },
    done() {
      if (shown) stream.write('\r\x1b[K');
      shown = false;
    },
  };
}
