// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What every worker of a training job does, wherever its processes run.

#include <memory>

#include "bench/psbench/local_cluster.h"
#include "bench/psbench/train/csv.h"
#include "bench/psbench/train/train.h"

namespace penstock::psbench {

// The rows of options.data, features scaled to 0 … 1. Errors name the file and the line.
Result<Dataset> load_data(const TrainOptions& options);

// Every worker is given the same options and data. Worker 0 prints loss and held-out accuracy per
// epoch and writes options.save. All but `optimizer` outlive the program.
std::unique_ptr<WorkerProgram> make_training(const TrainOptions& options,
                                             const OptimizerSpec& optimizer, const Dataset& data,
                                             SharedPage& page);

}  // namespace penstock::psbench
