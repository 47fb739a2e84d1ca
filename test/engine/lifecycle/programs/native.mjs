// The addon of the built package.
const { native: get } = await import(new URL('../../../../dist/native/load.js', import.meta.url).href);
export const native = get();
