/**
 * Returns the cheapest services that have all of these skills, in the given order.
 *
 * @param {{ skills: string[], cost: number }[]} services
 * @param {string[]} skills
 */
export function candidates(services, skills) {
    const able = services.filter((service) => skills.every((skill) => service.skills.includes(skill)));
    const least = Math.min(...able.map((service) => service.cost));
    return able.filter((service) => service.cost === least);
}
