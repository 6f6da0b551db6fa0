// SPDX-License-Identifier: GPL-2.0
/*
 * Keeps a listener whose code is in p2pdma_lender, without keeping that module:
 * as safe Rust code of one module can keep a Listening of another's. The library
 * must call nothing of p2pdma_lender once that is gone, also not when the
 * listener is removed at last, by the exit of this module.
 */

#include <linux/module.h>

#include "helpers.h"
#include "lender.h"

static struct p2pdma_listener *listener;

static int __init keeper_init(void)
{
	p2pdma_listener_call call = symbol_get(p2pdma_lender_call);
	p2pdma_listener_release release = symbol_get(p2pdma_lender_release);
	int error = -ENOENT;

	if (call && release) {
		listener = p2pdma_helper_listen(call, release, NULL);
		error = listener ? 0 : -ENOMEM;
	}
	if (call)
		symbol_put(p2pdma_lender_call);
	if (release)
		symbol_put(p2pdma_lender_release);
	return error;
}
module_init(keeper_init);

static void __exit keeper_exit(void)
{
	p2pdma_helper_unlisten(listener);
}
module_exit(keeper_exit);

MODULE_DESCRIPTION("Test module that keeps what is code of another");
MODULE_LICENSE("GPL");
