// The package's entry `swiftkv/train`: making SwiftKV models of plain ones.

export { type ArcticRecipeOptions, arcticRecipe, writeArcticRecipe } from './arctic-recipe.ts';
export type { BaseModel, SwiftKVLayout } from './base-model.ts';
export { openBase, parseLayout } from './base-model.ts';
export { type Conversion, type ConvertOptions, convertModel } from './convert.ts';
export { type DataFile, type DataOptions, openData, parseDataFile, type TrainingData } from './data/index.ts';
export { type DataState, DataStream, type PackedBatch, type StreamOptions } from './data/packer.ts';
export {
  type ParameterData,
  type Parameters,
  type WriteModelOptions,
  type WriteSwiftKVOptions,
  writeModelCheckpoint,
  writeSwiftKVCheckpoint,
} from './write-checkpoint.ts';
