// Histograms of machine instructions from the output of `nvdisasm -c`. Static counts, as for PTX.

const families = {
  HMMA: /^HMMA/,
  HGMMA: /^HGMMA|^QGMMA/,
  IMMA: /^IMMA/,
  LDSM: /^LDSM/,
  LDGSTS: /^LDGSTS/,
  'LDG.128': /^LDG\.\S*128/,
  'STG.128': /^STG\.\S*128/,
  LDL: /^LDL/,
  STL: /^STL/,
  BAR: /^BAR/,
};

/** {kernel: {total, HMMA, LDSM, ...}} */
export function parseSass(text) {
  const kernels = {};
  let histogram;
  for (const line of text.split('\n')) {
    const section = line.match(/^\s*\.section\s+(\S+?),/);
    if (section) {
      const name = section[1].match(/^\.text\.(\S+)$/)?.[1];
      histogram = undefined;
      if (name === undefined) continue;
      histogram = { total: 0 };
      for (const family of Object.keys(families)) histogram[family] = 0;
      kernels[name] = histogram;
      continue;
    }
    const opcode = line.match(/^\s*\/\*[0-9a-f]{4,}\*\/\s+\{?\s*(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)/)?.[1];
    if (!histogram || opcode === undefined) continue;
    histogram.total++;
    for (const [family, pattern] of Object.entries(families)) if (pattern.test(opcode)) histogram[family]++;
  }
  return kernels;
}
