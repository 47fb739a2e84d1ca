// The report as Markdown.

export function markdown(report) {
  const lines = [
    '# Static report of the CUDA kernels',
    '',
    'Made by `npm run cuda:report`; docs/cuda-report.md explains it.',
  ];
  lines.push(report.sass ? '' : '\nMachine instructions: absent, as nvdisasm was not found.\n');
  for (const arch of [...new Set(report.kernels.map((kernel) => kernel.arch))]) {
    const kernels = report.kernels.filter((kernel) => kernel.arch === arch);
    lines.push(`## ${arch}`, '', ...table(kernels, report.sass), '');
  }
  return `${lines.join('\n')}\n`;
}

function table(kernels, sass) {
  const heads = ['kernel', 'threads', 'registers', 'shared', 'spills', 'blocks', 'occupancy', 'limit'];
  heads.push('mma', 'ldmatrix', 'cp.async', 'ld 16 B', 'st 16 B');
  if (sass) heads.push('SASS', 'HMMA', 'HGMMA', 'LDSM', 'LDGSTS', 'LDG.128', 'STG.128');
  const rows = kernels.map((k) => [
    `${k.source}: \`${k.kernel}\``,
    k.assumedThreads ? `(${k.threads})` : k.threads,
    k.registers,
    k.dynamicShared === undefined ? k.staticShared : k.staticShared + k.dynamicShared,
    k.spillStores + k.spillLoads,
    k.occupancy.blocks,
    `${(k.occupancy.fraction * 100).toFixed(0)}%`,
    k.occupancy.limit,
    ...['mma', 'ldmatrix', 'cpAsync', 'load16', 'store16'].map((name) => k.counts[name]),
    ...(sass ? ['total', 'HMMA', 'HGMMA', 'LDSM', 'LDGSTS', 'LDG.128', 'STG.128'].map((f) => k.sass?.[f] ?? '') : []),
  ]);
  return [heads, heads.map((_, i) => (i === 0 || i === 7 ? '---' : '---:')), ...rows].map(
    (row) => `| ${row.join(' | ')} |`,
  );
}
