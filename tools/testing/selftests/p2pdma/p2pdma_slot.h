/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Pulling devices out of slots with native PCIe hotplug, for the selftests of
 * surprise removal. To be included after kselftest_harness.h.
 */
#ifndef _SELFTESTS_P2PDMA_SLOT_H
#define _SELFTESTS_P2PDMA_SLOT_H

#include <dirent.h>
#include <endian.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/pci_regs.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the slot ---------------------------------------------------------- */

/* Registers of the port that a device is behind, 16 bits at a time. */
static inline int port_open(const char *bdf)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/../config", bdf);
	return open(path, O_RDWR | O_CLOEXEC);
}

static inline bool port_read(int port, int reg, uint16_t *value)
{
	if (pread(port, value, sizeof(*value), reg) != sizeof(*value))
		return false;
	*value = le16toh(*value);
	return true;
}

static inline bool port_write(int port, int reg, uint16_t value)
{
	value = htole16(value);
	return pwrite(port, &value, sizeof(value), reg) == sizeof(value);
}

/* Offset of the PCI Express capability of a port with a slot; 0 if none. */
static inline int slot_capability(int port)
{
	uint16_t at = 0, header = 0, flags = 0, slot = 0;

	port_read(port, PCI_CAPABILITY_LIST, &at);
	/* the list has an end, unless it is broken */
	for (int i = 0; i < 48 && (at &= 0xfc); i++, at = header >> 8) {
		if (!port_read(port, at, &header))
			return 0;
		if ((header & 0xff) != PCI_CAP_ID_EXP)
			continue;
		port_read(port, at + PCI_EXP_FLAGS, &flags);
		port_read(port, at + PCI_EXP_SLTCAP, &slot);
		return flags & PCI_EXP_FLAGS_SLOT &&
		       slot & PCI_EXP_SLTCAP_HPC &&
		       slot & PCI_EXP_SLTCAP_PCP ? at : 0;
	}
	return 0;
}

/* Whether the kernel looks after the slot that a device is in: pciehp does. */
static inline bool slot_is_native(const char *bdf)
{
	char path[PATH_MAX], port[PATH_MAX];
	bool found = false;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/..", bdf);
	if (!realpath(path, port))
		return false;
	/* names of its services are the port's address and a type */
	dir = opendir("/sys/bus/pci_express/drivers/pciehp");
	for (struct dirent *e; dir && !found && (e = readdir(dir));)
		found = !strncmp(e->d_name, strrchr(port, '/') + 1,
				 strlen("0000:00:00.0"));
	if (dir)
		closedir(dir);
	return found;
}

/* A device whose slot can be switched off, and the kernel finds it so. */
static inline bool in_a_slot(const char *bdf)
{
	int port = port_open(bdf);
	bool found = port >= 0 && slot_capability(port) &&
		     slot_is_native(bdf);

	if (port >= 0)
		close(port);
	return found;
}

/*
 * Switch the slot off and on again, without its interrupt: the device is gone
 * when this returns. The kernel is told when the interrupt is back; as far as it
 * can see the power has been on all the time.
 */
static inline void pull_out(struct __test_metadata *_metadata, const char *bdf)
{
	int port = port_open(bdf), at;
	uint16_t control, off;

	ASSERT_LE(0, port);
	at = slot_capability(port);
	ASSERT_LT(0, at);
	at += PCI_EXP_SLTCTL;
	ASSERT_TRUE(port_read(port, at, &control));
	off = control & ~(PCI_EXP_SLTCTL_HPIE | PCI_EXP_SLTCTL_PIC);
	off |= PCI_EXP_SLTCTL_PWR_OFF | PCI_EXP_SLTCTL_PWR_IND_OFF;
	ASSERT_TRUE(port_write(port, at, off) && port_write(port, at, control))
		TH_LOG("the slot of %s: %s", bdf, strerror(errno));
	close(port);
}

static inline bool exists(const char *bdf)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", bdf);
	return !access(path, F_OK);
}

/* Whether P2PDMA_SURPRISE names a device, in one of the ways it has. */
static inline bool may_go(const char *bdf, const char *kind, const char *serial)
{
	const char *list = getenv("P2PDMA_SURPRISE");
	char *copy, *word, *save = NULL;
	bool found = false;

	copy = list ? strdup(list) : NULL;
	for (word = copy ? strtok_r(copy, " \t\n", &save) : NULL; word;
	     word = strtok_r(NULL, " \t\n", &save))
		found |= !strcmp(word, bdf) || !strcmp(word, kind) ||
			 (*serial && !strcmp(word, serial));
	free(copy);
	return found && in_a_slot(bdf);
}

#endif /* _SELFTESTS_P2PDMA_SLOT_H */
