// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a failed work completion means, in our words: one row for every ibv_wc_status.

#include <string>

#include "transport/verbs/api.h"

namespace penstock::verbs {

// Of a completion that is not IBV_WC_SUCCESS. The text names the rail, the status, libibverbs'
// words for it and the vendor's code; a status no header knows becomes kSystem. `peer` is who was
// talked to.
Status completion_error(const VerbsApi& api, const ibv_wc& completion, const std::string& rail,
                        const std::string& peer);

// Is there a row for it? For the test that the table is complete.
bool knows_completion_error(ibv_wc_status status);

}  // namespace penstock::verbs
