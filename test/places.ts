// The places under test: SWIFTKV_TEST_BACKENDS lists devices, e.g. "simt" or "cpu,cuda"; by default the cpu's levels.

import { optionsOf, placesOf } from '../lib/golden/places.ts';

export const devicesUnderTest = (process.env.SWIFTKV_TEST_BACKENDS ?? 'cpu').split(',');
export const places = placesOf(devicesUnderTest);
/** Of tests that are about one device and not about its levels. */
export const device = optionsOf(places.at(-1)!).device;
export { optionsOf };

/** Executing kernels on the host takes thousands of times as long: tests then take fewer and smaller cases. */
export const isSlow = devicesUnderTest.some((name) => name.startsWith('simt'));
