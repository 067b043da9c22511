// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Sparse tables: what workers pushed for some rows is merged into one gradient a row, and the rule
// steps those rows. Start here; which rule is row_optimizer.h's affair, the loops are in rows/.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "kernels/dtype.h"
#include "kernels/row_coefficients.h"
#include "kernels/update.h"

namespace penstock {

// One float array of a table: row r begins at data + r·stride floats. A stride above the width
// leaves room for other arrays of the same table, so that parameters and state of a row can share
// cache lines.
struct RowPlane {
  float* data = nullptr;
  std::size_t stride = 0;
};

struct RowTable {
  RowPlane parameters;            // [rows][width]
  RowPlane state[kMaxRowPlanes];  // as row_planes() says: [rows][width] ones, then [rows] ones
  std::uint64_t rows = 0;         // at most kMaxRows
  std::size_t width = 0;          // floats of a row, at least 1
};
inline constexpr std::uint64_t kMaxRows = std::uint64_t{1} << 32;  // row numbers have 32 bits

// Which rows a step covers.
enum class RowCoverage : std::uint8_t {
  kTouched,  // those with a gradient: "lazy"
  // Every row of the table, with a gradient of +0 where there is none: decay and momentum act, as a
  // dense update would. Also with no gradient at all; Paddle's adam takes no step then, which is up
  // to the caller: do not call.
  kAll,
};

// One step of a table. The gradient of row rows[i] is scaled and clipped as in UpdateArgs, then the
// rule runs; every NaN stored is the quiet NaN. `kAll` is one pass over the table's memory.
// Order: rows ascend strictly, as merge() leaves them (checked). Rows not in the table are passed
// over and counted. Alignment: 4 bytes. No two arrays overlap. All stays the caller's.
struct RowUpdateArgs {
  RowTable table;
  const std::uint32_t* rows = nullptr;  // [count]
  const float* gradients = nullptr;     // [count][width]
  std::size_t count = 0;
  float scale = 1;  // 1 for a sum, 1/W for the mean of workers, after the merge as MindSpore has it
  RowCoverage coverage = RowCoverage::kTouched;
};

// What one worker pushed. `ids` are 4 or 8 bytes each, unsigned, in any order, with duplicates; a
// negative id of a signed type is a large one here and so outside every table that is not that big.
struct RowContribution {
  const void* ids = nullptr;     // [count]
  const void* values = nullptr;  // [count][width] of the merge's dtype
  std::size_t count = 0;         // 0: nothing this round
};

// What a merge gives: per row one sum, in float32, of all that was pushed for it, in the order
// (rank, position), starting from the first contribution itself. Row = id − first_id; ids below
// first_id and beyond the last row are dropped and counted. The result depends on nothing else: no
// thread, no arrival, no instruction set.
struct RowMergeArgs {
  const RowContribution* workers = nullptr;  // [worker_count], by rank
  std::uint32_t worker_count = 0;            // 1 … kMaxWorkers
  std::uint32_t id_bytes = 8;                // 4 or 8
  DType dtype = DType::kFloat32;
  std::size_t width = 0;
  std::uint64_t first_id = 0;
  std::uint64_t rows = 0;  // of the table, at most kMaxRows
  // Room for as many as the workers sent together, at most kMaxMergedRows.
  std::uint64_t* scratch = nullptr;      // [2·capacity]
  std::uint32_t* merged_rows = nullptr;  // [capacity], written: ascending, each once
  float* sums = nullptr;                 // [capacity][width], written
  std::size_t capacity = 0;
};
inline constexpr std::size_t kMaxMergedRows = std::size_t{1} << 32;

struct MergedRows {
  std::size_t count = 0;      // rows and sums written
  std::uint64_t dropped = 0;  // contributions whose id the table does not have
};

// The kernels for rows, a table of functions per instruction set like KernelTable and as equal in
// bits. Immutable; functions may be called from any thread at once, allocate and keep nothing.
struct RowKernels {
  const char* target;  // as KernelTable's

  // Returns how many of args.rows the table does not have. `coefficients` come from fold_rows().
  std::size_t (*update)(const RowCoefficients& coefficients, const RowUpdateArgs& args);

  MergedRows (*merge)(const RowMergeArgs& args);
};

// Every table this CPU can run, worst first; the first is "scalar".
std::span<const RowKernels* const> available_row_kernels();

// The last of available_row_kernels().
const RowKernels& best_row_kernels();

// By name, exactly; nullptr when this CPU or this build has no such target.
const RowKernels* find_row_kernels(std::string_view target);

}  // namespace penstock
