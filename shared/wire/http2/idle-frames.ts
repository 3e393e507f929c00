import { FloodBudget } from "./flood-budget.ts";
import { idleFramesBurst, idleFramesEarned, idleFramesPerSecond } from "./limits.ts";
import { ConnectionFault, ErrorCode } from "./protocol.ts";

/** Frames of a peer that move nothing: how many there may be. */
export class IdleFrames {
  readonly #budget = new FloodBudget(idleFramesBurst, idleFramesPerSecond);

  /** A frame came that moves something. */
  earn(): void {
    this.#budget.earn(idleFramesEarned);
  }

  /**
   * A frame came that moves nothing.
   *
   * @param count - As how many it counts.
   * @throws ConnectionFault when there are too many.
   */
  spend(count = 1): void {
    if (!this.#budget.spend(count)) {
      throw new ConnectionFault(ErrorCode.EnhanceYourCalm, "too many frames without payload");
    }
  }
}
