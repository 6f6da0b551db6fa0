/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the abstraction calls and reads, for bindgen. nvmet.h is private to
 * drivers/nvme/target, and so is not among a distribution's kernel headers.
 */

#include <linux/device/bus.h>
#include <linux/notifier.h>
#include <linux/nvme.h>

#include "nvmet.h"

#include "helpers.h"
