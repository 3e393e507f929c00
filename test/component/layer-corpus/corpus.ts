import { attributeLayers } from "./attributes.ts";
import type { CorpusLayer } from "./corpus-layer.ts";
import { damagedLayers } from "./damages.ts";
import { headerLayers } from "./headers.ts";
import { nameLayers } from "./names.ts";
import { recordLayers } from "./records.ts";
import { sparseLayers } from "./sparse.ts";
import { whiteoutLayers } from "./whiteouts.ts";

/** Odd and hostile layers, the same bytes in every run. */
export const corpus: readonly CorpusLayer[] = [
  ...headerLayers,
  ...recordLayers,
  ...sparseLayers,
  ...nameLayers,
  ...whiteoutLayers,
  ...attributeLayers,
  ...damagedLayers,
];
