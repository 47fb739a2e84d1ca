// The package's entry `swiftkv/train`: making SwiftKV models of plain ones.

export { type ArcticRecipeOptions, arcticRecipe, writeArcticRecipe } from './arctic-recipe.ts';
export type { BaseModel, SwiftKVLayout } from './base-model.ts';
export { openBase, parseLayout } from './base-model.ts';
export { type Conversion, type ConvertOptions, convertModel } from './convert.ts';
export { type DataFile, type DataOptions, openData, parseDataFile, type TrainingData } from './data/index.ts';
export { type DataState, DataStream, type PackedBatch, type StreamOptions } from './data/packer.ts';
export { type TrainingBatch, TrainingModel, type TrainingModelOptions, type UpdateOptions } from './model.ts';
export type { DistillRunOptions, RunOptions, TrainRunOptions } from './options.ts';
export { distill, type RunEvent, train, trainingFolder } from './run.ts';
export { learningRate, type Schedule, type ScheduleName } from './schedule.ts';
export {
  type BatchStream,
  runTrainer,
  type TrainEvent,
  type TrainerOptions,
  type TrainerState,
} from './trainer.ts';
export {
  type ParameterData,
  type Parameters,
  type WriteModelOptions,
  type WriteSwiftKVOptions,
  writeModelCheckpoint,
  writeSwiftKVCheckpoint,
} from './write-checkpoint.ts';
