// Launch bounds and counts of instructions of each kernel in the output of `nvcc -ptx`. Counts are static: an
// instruction in a loop counts once.

const counted = {
  mma: /^wgmma\.mma_async|^mma\.sync/,
  ldmatrix: /^ldmatrix/,
  cpAsync: /^cp\.async\.c[ag]/,
  bulk: /^cp\.async\.bulk\.(?!commit|wait)/,
  load16: /^ld(\.global|\.nc|\.relaxed|\.volatile|\.L\d::\w+)*\.(v4\.[bfsu]32|v2\.[bfsu]64|v8\.\w+|v4\.[bfsu]64)$/,
  store16: /^st(\.global|\.relaxed|\.volatile|\.L\d::\w+)*\.(v4\.[bfsu]32|v2\.[bfsu]64|v8\.\w+|v4\.[bfsu]64)$/,
  local: /^(ld|st)\.local/,
  barrier: /^bar(rier)?\.(cta\.)?sync/,
};

/** The opcodes of a line, without labels, predicates and comments; a line of inline asm may have several. */
function opcodes(line) {
  return line
    .replace(/\/\/.*$/, '')
    .split(';')
    .map((statement) =>
      statement
        .trim()
        .replace(/^[{}\s]+/, '')
        .replace(/^[$\w]+:\s*/, '')
        .replace(/^@!?%?\w+\s+/, ''),
    )
    .map((statement) => statement.split(/\s/, 1)[0])
    .filter((opcode) => /^[a-z]/.test(opcode));
}

/** [{name, maxThreads (undefined without launch bounds), minBlocks, counts: {mma, ldmatrix, ...}}] */
export function parsePtx(text) {
  const kernels = [];
  let kernel;
  let depth = 0;
  for (const line of text.split('\n')) {
    const entry = line.match(/\.entry\s+([\w$]+)/);
    if (entry) {
      kernel = { name: entry[1], maxThreads: undefined, minBlocks: undefined, counts: {} };
      for (const name of Object.keys(counted)) kernel.counts[name] = 0;
      kernels.push(kernel);
      depth = 0;
    } else if (/\.func\b/.test(line) && depth === 0) {
      kernel = undefined;
    }
    if (!kernel) continue;
    const threads = line.match(/^\.maxntid\s+(\d+)(?:,\s*(\d+))?(?:,\s*(\d+))?/);
    if (threads) kernel.maxThreads = threads.slice(1).reduce((product, n) => product * Number(n ?? 1), 1);
    const blocks = line.match(/^\.minnctapersm\s+(\d+)/);
    if (blocks) kernel.minBlocks = Number(blocks[1]);
    const before = depth;
    depth += line.split('{').length - line.split('}').length;
    if (before === 0) continue;
    for (const opcode of opcodes(line)) {
      for (const [name, pattern] of Object.entries(counted)) if (pattern.test(opcode)) kernel.counts[name]++;
    }
  }
  return kernels;
}
