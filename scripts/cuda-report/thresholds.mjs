// Holds kernels to the rules of thresholds.json. No kernel may spill, have a stack or touch local memory. Beyond that,
// the first rule whose `match` (a regular expression) finds the kernel's name applies:
//   maxRegisters; minOccupancy (of the multiprocessor's warps; `minOccupancyOf` for single architectures);
//   min: least counts of PTX instructions, by the names of parse-ptx.mjs.

/** What is wrong with a kernel, in words; empty if nothing is. */
export function violations(kernel, rules) {
  const wrong = [];
  if (kernel.spillStores + kernel.spillLoads > 0)
    wrong.push(`spills ${kernel.spillStores} bytes and loads ${kernel.spillLoads}`);
  if (kernel.stack > 0) wrong.push(`has a stack of ${kernel.stack} bytes`);
  if (kernel.counts.local > 0) wrong.push(`touches local memory in ${kernel.counts.local} PTX instructions`);
  if (kernel.sass && kernel.sass.LDL + kernel.sass.STL > 0)
    wrong.push(`touches local memory in ${kernel.sass.LDL + kernel.sass.STL} machine instructions`);
  const rule = ruleOf(kernel, rules);
  if (rule === undefined) return [...wrong, 'matches no rule'];
  if (kernel.registers > rule.maxRegisters)
    wrong.push(`needs ${kernel.registers} registers, more than ${rule.maxRegisters}`);
  const least = rule.minOccupancyOf?.[kernel.arch] ?? rule.minOccupancy;
  if (kernel.occupancy.fraction < least)
    wrong.push(`fills ${percent(kernel.occupancy.fraction)} of the warps, less than ${percent(least)}`);
  for (const [name, count] of Object.entries(rule.min ?? {}))
    if (!(kernel.counts[name] >= count))
      wrong.push(`has ${kernel.counts[name]} ${name} instructions, fewer than ${count}`);
  return wrong;
}

export function ruleOf(kernel, rules) {
  return rules.find((rule) => new RegExp(rule.match).test(kernel.kernel));
}

/** Rules that no kernel of an architecture falls under: kernels were renamed or went. */
export function unusedRules(kernels, rules) {
  const used = new Set(kernels.map((kernel) => ruleOf(kernel, rules)));
  return rules.filter((rule) => !used.has(rule)).map((rule) => rule.match);
}

const percent = (fraction) => `${(fraction * 100).toFixed(1)}%`;
