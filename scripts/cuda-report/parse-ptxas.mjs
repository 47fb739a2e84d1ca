// What `ptxas -v` says of each kernel.

/** [{name, registers, barriers, staticShared, stack, spillStores, spillLoads}], in the order of the log. */
export function parsePtxas(log) {
  const kernels = [];
  for (const line of log.split('\n')) {
    const entry = line.match(/Compiling entry function '([^']+)'/);
    if (entry) {
      const zero = { registers: 0, barriers: 0, staticShared: 0, stack: 0, spillStores: 0, spillLoads: 0 };
      kernels.push({ name: entry[1], ...zero });
      continue;
    }
    const kernel = kernels.at(-1);
    if (!kernel) continue;
    const number = (pattern) => Number(line.match(pattern)?.[1] ?? 0);
    // Functions that were not inlined have lines of their own after the kernel that comes before them.
    kernel.stack = Math.max(kernel.stack, number(/(\d+) bytes stack frame/));
    kernel.spillStores += number(/(\d+) bytes spill stores/);
    kernel.spillLoads += number(/(\d+) bytes spill loads/);
    if (!line.includes(' registers')) continue;
    kernel.registers = number(/Used (\d+) registers/);
    kernel.barriers = number(/used (\d+) barriers/);
    kernel.staticShared = number(/(\d+) bytes smem/);
  }
  return kernels;
}
