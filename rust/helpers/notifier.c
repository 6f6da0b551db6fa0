// SPDX-License-Identifier: GPL-2.0
/*
 * The PCI bus tells one notifier of this module when drivers are bound and
 * unbound, and this tells all that asked: see rust/p2pdma/pci/notifier.rs. It
 * differs from bus_register_notifier() in what it forgives:
 *
 * - Who listens may add and remove listeners, itself included, while it is
 *   called: no lock is held then.
 * - A listener that nobody removes goes with the module that its code is in.
 *
 * What else is left behind when a module goes can be put right by an act of the
 * module's own, which is called then: see rust/p2pdma/system.rs.
 */

#include <linux/cleanup.h>
#include <linux/delay.h>
#include <linux/device/bus.h>
#include <linux/export.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/pci.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>

#include "helpers.h"

/**
 * struct p2pdma_listener - one that is told
 * @node: in @listeners, oldest first, until it is freed
 * @id: numbered in the order in which they came
 * @running: calls of @call that have not returned
 * @active: it is told of what comes
 * @owned: its owner has not removed it
 * @call: tells it
 * @release: lets @data go
 * @data: for both
 */
struct p2pdma_listener {
	struct list_head node;
	u64 id;
	unsigned int running;
	bool active;
	bool owned;
	p2pdma_listener_call call;
	p2pdma_listener_release release;
	void *data;
};

/* Protects the list, and what is in its members. */
static DEFINE_MUTEX(listeners_lock);
static LIST_HEAD(listeners);
static u64 last_id;

/* Frees it when nobody has to do with it any more; called and returns locked. */
static void put(struct p2pdma_listener *listener)
{
	if (listener->running || listener->owned || listener->active)
		return;

	/* Nobody else frees it meanwhile, and who waits for its code goes on. */
	listener->running = 1;
	if (listener->release) {
		mutex_unlock(&listeners_lock);
		listener->release(listener->data);
		mutex_lock(&listeners_lock);
	}
	list_del(&listener->node);
	kfree(listener);
}

/* The oldest that is younger than @id. */
static struct p2pdma_listener *younger(u64 id)
{
	struct p2pdma_listener *listener;

	list_for_each_entry(listener, &listeners, node)
		if (listener->id > id && listener->active)
			return listener;
	return NULL;
}

static int bus_event(struct notifier_block *block, unsigned long event,
		     void *data)
{
	struct pci_dev *pdev = to_pci_dev((struct device *)data);
	struct p2pdma_listener *listener;
	u64 id = 0, last;

	mutex_lock(&listeners_lock);
	/* Those that are added while others are told come too late. */
	last = last_id;
	while ((listener = younger(id)) && listener->id <= last) {
		id = listener->id;
		listener->running++;
		mutex_unlock(&listeners_lock);
		listener->call(listener->data, event, pdev);
		mutex_lock(&listeners_lock);
		listener->running--;
		put(listener);
	}
	mutex_unlock(&listeners_lock);
	return NOTIFY_DONE;
}

static struct notifier_block bus_block = { .notifier_call = bus_event };

struct p2pdma_listener *p2pdma_helper_listen(p2pdma_listener_call call,
					     p2pdma_listener_release release,
					     void *data)
{
	struct p2pdma_listener *listener = kzalloc(sizeof(*listener), GFP_KERNEL);

	if (!listener)
		return NULL;

	listener->active = true;
	listener->owned = true;
	listener->call = call;
	listener->release = release;
	listener->data = data;
	mutex_lock(&listeners_lock);
	listener->id = ++last_id;
	list_add_tail(&listener->node, &listeners);
	mutex_unlock(&listeners_lock);
	return listener;
}
EXPORT_SYMBOL_GPL(p2pdma_helper_listen);

/* Does not wait for calls that are under way. */
void p2pdma_helper_unlisten(struct p2pdma_listener *listener)
{
	mutex_lock(&listeners_lock);
	listener->active = false;
	listener->owned = false;
	put(listener);
	mutex_unlock(&listeners_lock);
}
EXPORT_SYMBOL_GPL(p2pdma_helper_unlisten);

/*
 * Makes those whose code is in @module silent; whether one of them still runs.
 * If somebody else removes one later, its data cannot be released any more.
 */
static bool silence(struct module *module)
{
	struct p2pdma_listener *listener;
	bool running = false;

	mutex_lock(&listeners_lock);
	list_for_each_entry(listener, &listeners, node) {
		if (!within_module((unsigned long)listener->call, module) &&
		    !within_module((unsigned long)listener->release, module))
			continue;
		listener->active = false;
		if (listener->running)
			running = true;
		else
			listener->release = NULL;
	}
	mutex_unlock(&listeners_lock);
	return running;
}

/**
 * struct p2pdma_last_act - what is done when a module goes
 * @node: in @acts, until it is done
 * @done: it was called
 * @cancelled: it is not called any more, and @release may be running
 * @call: does it
 * @release: lets @data go
 * @data: for both
 */
struct p2pdma_last_act {
	struct list_head node;
	bool done, cancelled;
	p2pdma_listener_release call;
	p2pdma_listener_release release;
	void *data;
};

/* Protected by @listeners_lock. */
static LIST_HEAD(acts);

struct p2pdma_last_act *p2pdma_helper_at_exit(p2pdma_listener_release call,
					      p2pdma_listener_release release,
					      void *data)
{
	struct p2pdma_last_act *act = kzalloc(sizeof(*act), GFP_KERNEL);

	if (!act)
		return NULL;

	act->call = call;
	act->release = release;
	act->data = data;
	mutex_lock(&listeners_lock);
	list_add_tail(&act->node, &acts);
	mutex_unlock(&listeners_lock);
	return act;
}
EXPORT_SYMBOL_GPL(p2pdma_helper_at_exit);

void p2pdma_helper_cancel_at_exit(struct p2pdma_last_act *act)
{
	mutex_lock(&listeners_lock);
	if (!act->done) {
		/* Whoever waits for its code finds it in the list meanwhile. */
		act->cancelled = true;
		mutex_unlock(&listeners_lock);
		act->release(act->data);
		mutex_lock(&listeners_lock);
		list_del(&act->node);
	}
	mutex_unlock(&listeners_lock);
	kfree(act);
}
EXPORT_SYMBOL_GPL(p2pdma_helper_cancel_at_exit);

static bool is_of(const struct p2pdma_last_act *act, struct module *module)
{
	return within_module((unsigned long)act->call, module) ||
	       within_module((unsigned long)act->release, module);
}

/* Whether one of @module is being cancelled, by code that is called for it. */
static bool cancelling(struct module *module)
{
	struct p2pdma_last_act *act;

	guard(mutex)(&listeners_lock);
	list_for_each_entry(act, &acts, node)
		if (act->cancelled && is_of(act, module))
			return true;
	return false;
}

/*
 * The youngest act whose code is in @module, which is not in the list after that.
 * It is copied to @copy: whoever owns it may free it any time then.
 */
static bool take_act(struct module *module, struct p2pdma_last_act *copy)
{
	struct p2pdma_last_act *act;

	guard(mutex)(&listeners_lock);
	list_for_each_entry_reverse(act, &acts, node) {
		if (act->cancelled || !is_of(act, module))
			continue;
		list_del(&act->node);
		act->done = true;
		*copy = *act;
		return true;
	}
	return false;
}

static int module_event(struct notifier_block *block, unsigned long event,
			void *module)
{
	struct p2pdma_last_act act;

	/* After the module's exit function, before its code is freed. */
	if (event != MODULE_STATE_GOING)
		return NOTIFY_DONE;
	/* Their memory belongs to who has leaked them. */
	while (take_act(module, &act)) {
		act.call(act.data);
		act.release(act.data);
	}
	while (silence(module) || cancelling(module))
		msleep(20);
	return NOTIFY_DONE;
}

static struct notifier_block module_block = { .notifier_call = module_event };

void p2pdma_helper_library_get(void)
{
	__module_get(THIS_MODULE);
}
EXPORT_SYMBOL_GPL(p2pdma_helper_library_get);

void p2pdma_helper_library_put(void)
{
	/*
	 * p2pdma_exit() cannot wait for tasks that were preempted in this code: so it
	 * stays.
	 */
	if (IS_ENABLED(CONFIG_PREEMPTION) && !IS_ENABLED(CONFIG_TASKS_RCU))
		return;
	module_put(THIS_MODULE);
}
EXPORT_SYMBOL_GPL(p2pdma_helper_library_put);

static int __init p2pdma_init(void)
{
	int ret = register_module_notifier(&module_block);

	if (ret)
		return ret;
	ret = bus_register_notifier(&pci_bus_type, &bus_block);
	if (ret)
		unregister_module_notifier(&module_block);
	return ret;
}

module_init(p2pdma_init);

static void __exit p2pdma_exit(void)
{
	struct p2pdma_listener *listener, *next;

	bus_unregister_notifier(&pci_bus_type, &bus_block);
	unregister_module_notifier(&module_block);
	/* Who has dropped the last reference may not have left this code yet. */
	synchronize_rcu_tasks();
	/* Of modules that are gone, and have not removed them. */
	list_for_each_entry_safe(listener, next, &listeners, node)
		kfree(listener);
}
module_exit(p2pdma_exit);
