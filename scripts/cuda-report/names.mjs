// Kernels by names that people read: `gemm<MmaProduct<large, bf16>, LinearFinish>`.

/** From a demangled declaration: no return type, parameters, namespaces or casts of enumerators. */
export function shortName(declaration, tiles = {}) {
  let depth = 0;
  let end = declaration.length;
  for (let i = 0; i < declaration.length; i++) {
    const c = declaration[i];
    if (c === '<') depth++;
    else if (c === '>') depth--;
    else if (c === '(' && depth === 0 && !declaration.startsWith('(anonymous namespace)', i)) {
      end = i;
      break;
    }
  }
  return declaration
    .slice(0, end)
    .replace(/^void /, '')
    .replaceAll('(anonymous namespace)::', '')
    .replaceAll(/\b(swiftkv|cuda)::/g, '')
    .replaceAll(/\(GemmTile\)(\d+)/g, (_, tile) => tiles[tile] ?? tile)
    .replaceAll(/\((?:bool|DType)\)/g, '');
}

/** Bytes of dynamic shared memory for a kernel, from [start of a name, bytes] pairs; undefined where none is known. */
export function dynamicShared(name, table) {
  return table.find(([start]) => name.startsWith(start))?.[1];
}
